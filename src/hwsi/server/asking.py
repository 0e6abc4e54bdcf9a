"""What the model does for a question or a report, and how its answer is told.

- Everything here that makes an answer runs in the model's thread; a question is checked before it is let in.
- Answers get an id and are kept for a while, so that their evidence can be fetched in another form.
"""

import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from hwsi.inference.answer import Answer
from hwsi.inference.questions import check_choices, check_question
from hwsi.inference.report import Report, Statement
from hwsi.inference.resting import Said
from hwsi.inference.studied import MAX_NEW_TOKENS, Stream, StudiedSlide
from hwsi.inference.words import confidence_words, reliance_words, verdict_words
from hwsi.server.area import Area, Labels, TurnedStream, inside
from hwsi.server.exchange import Elsewhere, Exchange, Spoken
from hwsi.server.problems import Problem
from hwsi.server.state import Server
from hwsi.server.worker import Task, Together

if TYPE_CHECKING:
    from hwsi.inference.seen import Seen


@dataclass(frozen=True)
class Question:
    """What is asked of a slide; see ``StudiedSlide.ask``.

    Attributes:
        area: the model reads only what lies in it. seen: of a slide that is not whole yet, what it reads.
    """

    slide: str
    text: str
    choices: tuple[str, ...] = ()
    area: Area | None = None
    evidence: bool = True
    max_new_tokens: int = MAX_NEW_TOKENS
    seen: "Seen | None" = None


def ask(server: Server, user: str, question: Question) -> Exchange:
    """Let a question in; its result is an ``Answer``. Raises Problem (404, 409, 429), HwsiError (the question)."""
    asking = _Asking(server, question)

    def speak(stream: Stream) -> Callable[[], Spoken | Elsewhere]:
        if asking.choices:
            return lambda: asking.closed(stream)
        if server.speaker is not None:
            return lambda: asking.elsewhere(stream)
        # what differs between questions that share a batch is the item alone
        return Together(asking.key, (asking.text, stream), asking.opened)

    return Exchange(server, user, speak, evidence=question.evidence, limit_s=server.settings.question_s)


class _Asking:
    """A question that was checked; its methods run in the model's thread."""

    def __init__(self, server: Server, question: Question) -> None:
        self.text, self.choices = check_question(question.text), check_choices(question.choices or None)
        self._server, self._question, self._labels = server, question, None
        seen = question.seen
        if seen is not None:
            if question.area is not None:
                what = "the slide is still being encoded: it can be asked about as far as it was seen, not in parts"
                raise Problem(409, "features_missing", what, "ask without a drawing, or wait")
            self._labels = Labels(seen.regions)
        else:  # what is wrong with slide or features is told before a stream begins
            tree = server.encoded.get(question.slide).read.hierarchy
            if question.area is not None:
                self._labels = Labels(inside(tree, question.area).regions)
        self.key = question.slide, question.area, seen and seen.done, question.max_new_tokens

    def closed(self, stream: Stream) -> Spoken:
        """One question with options."""
        session, turned = self._session(), TurnedStream(self._labels, stream)
        answer = session.ask(self.text, self.choices, evidence=False, stream=turned)
        turned.end()
        return Spoken(self._told(answer), lambda: self._told(session.ask(self.text, self.choices)))

    def opened(self, asked: Sequence[tuple[str, Stream]]) -> list[Spoken]:
        """Open questions about the same tissue, in one batch."""
        session, texts = self._session(), [text for text, _ in asked]
        streams = [TurnedStream(self._labels, stream) for _, stream in asked]
        said = session.say(texts, max_new_tokens=self._question.max_new_tokens, streams=streams)
        for stream in streams:
            stream.end()
        return [self._spoken(session, text, words) for text, words in zip(texts, said, strict=True)]

    def elsewhere(self, stream: Stream) -> Elsewhere:
        """One open question, whose words another server says."""
        session, turned = self._session(), TurnedStream(self._labels, stream)
        wait = session.apart(self.text, self._question.max_new_tokens)

        def say(check: Callable[[], None]) -> Said:
            said = wait(turned, check)
            turned.end()
            return said

        return Elsewhere(say, partial(self._spoken, session, self.text))

    def heat(self) -> dict[str, Any]:
        """Of every region and patch, with the labels of the whole slide."""
        question, labels = self._question, self._labels
        found = self._session().heat(self.text, self.choices, max_new_tokens=question.max_new_tokens)
        weighed: dict[str, list[dict[str, Any]]] = {"region": [], "patch": []}
        for e in found:
            label = e.label if labels is None else labels.text(e.label)
            weighed[e.scale].append({"label": label, "box": e.box, "worth": round(e.score, 6)})
        unit = "nats of log-odds" if self.choices else "nats per word piece"
        return {"unit": unit, "regions": weighed["region"], "patches": weighed["patch"]}

    def _spoken(self, session: StudiedSlide, text: str, said: Said) -> Spoken:
        answer = session.ask(text, evidence=False, said=said)
        return Spoken(self._told(answer), lambda: self._told(session.ask(text, said=said)))

    def _session(self) -> StudiedSlide:
        question = self._question
        return self._server.sessions.get(question.slide, question.area, question.seen)

    def _told(self, answer: Answer) -> Answer:
        if self._labels is not None:
            answer = self._labels.answer(answer)
        seen = self._question.seen
        if seen is None:
            return answer
        return replace(answer, warnings=(seen.words, *answer.warnings), looked_at=answer.looked_at * seen.share)


def heat(server: Server, user: str, question: Question) -> Task:
    """What every region and patch is worth to the answer to a question, as a client gets it. Raises Problem."""
    asking = _Asking(server, question)
    return server.worker.submit(asking.heat, user, later=True, limit_s=server.settings.report_s)


def report(server: Server, user: str, slide: str, *, evidence: bool) -> Exchange:
    """Let a wish for a report in; its result is a ``Report``. Raises Problem (404, 409, 429)."""
    server.encoded.get(slide)

    def spoken(session: StudiedSlide, said: Said) -> Spoken:
        return Spoken(session.report(evidence=False, said=said), lambda: session.report(said=said))

    def work(stream: Stream) -> Spoken | Elsewhere:
        session = server.sessions.get(slide)
        if server.speaker is not None:
            return Elsewhere(partial(session.report_apart(), stream), partial(spoken, session))
        return spoken(session, session.say_report(stream))

    return Exchange(
        server, user, lambda stream: lambda: work(stream), evidence=evidence, limit_s=server.settings.report_s
    )


def told_answer(server: Server, question: Question, answer: Answer) -> dict[str, Any]:
    """An answer as a client gets it, kept under its id."""
    area, seen = None, question.seen
    if question.area is not None:
        tree = server.encoded.get(question.slide).read.hierarchy
        patches = int(inside(tree, question.area).patches.sum())
        area = {"patches": patches, "um2": round(patches * (tree.patches.size0 * tree.mpp) ** 2)}
    said = {
        "id": secrets.token_hex(8),
        "slide": question.slide,
        **answer.to_dict(),
        "reliance_words": reliance_words(answer.visual_reliance),
        "confidence_words": confidence_words(answer.confidence, len(answer.choices)),
        "support_words": verdict_words(answer.support) if answer.support is not None else None,
        "area": area,
        "seen": None if seen is None else {"share": round(seen.share, 4), "regions": seen.done, "of": seen.total},
    }
    said["provenance"]["features"] = said["provenance"]["features"].rpartition("/")[2]
    server.answers.put(said["id"], said)
    server.asked.put(said["id"], question)
    return said


def told_report(made: Report) -> dict[str, Any]:
    """A report as a client gets it."""
    said = made.to_dict()
    said["provenance"]["features"] = said["provenance"]["features"].rpartition("/")[2]
    said |= _measures(made)
    for statement, told in zip(made.statements, said["statements"], strict=True):
        told |= _measures(statement)
        told["support_words"] = verdict_words(statement.support) if statement.support is not None else None
    return said


def _measures(part: Report | Statement) -> dict[str, str]:
    return {
        "reliance_words": reliance_words(part.visual_reliance),
        "confidence_words": confidence_words(part.confidence, 0),
    }
