"""What can be asked of a slide under study, whatever the model: answers, reports, and what they rest on.

- A model's own session says how likely words are, with the whole slide, without it, and with parts of it left out;
  here is what follows from that.
- Deterministic: greedy words, float32, no random number anywhere.

Notation: T tokens of an answer, C options, N nodes, B keep masks, U units (sentences, or the whole answer).
"""

from collections.abc import Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from hwsi import __version__
from hwsi.encoders.nano import PATCH
from hwsi.errors import HwsiError, Reason
from hwsi.features import SlideFeatures
from hwsi.hierarchy.labels import region_label
from hwsi.inference.abstention import known_closed
from hwsi.inference.answer import Answer, Evidence, LeftOutAt, Provenance
from hwsi.inference.calibration import Calibration
from hwsi.inference.closed import log_odds, option_probs
from hwsi.inference.evidence import Bool, Float64, marginals
from hwsi.inference.evidence.attribution import Claims, Mode
from hwsi.inference.evidence.verdict import Verdict, not_judged
from hwsi.inference.questions import check_choices, check_question
from hwsi.inference.report import Report, Statement, citations, sentences
from hwsi.inference.resting import MAX_EVIDENCE, Chosen, Said, about
from hwsi.inference.speaking import Apart, Speaking
from hwsi.inference.speaking import Stream as Stream
from hwsi.inference.streaming import token_ends
from hwsi.inference.tasks import CAPTION_PROMPT, REPORT_PROMPT
from hwsi.inference.tissue import EvidenceMaker, quality_warnings
from hwsi.model.prompt import Node

if TYPE_CHECKING:
    from hwsi.slide import Slide

MAX_NEW_TOKENS = 96
REPORT_TOKENS = 400
SENTENCE_EVIDENCE = 3

WITHHELD = "No answer: not sure enough for the risk that was accepted."

RESEARCH = "Research use; not a diagnosis."
SYNTHETIC = (
    "The embedded model 'nano' was trained on synthetic tissue only; on real tissue its words mean nothing. " + RESEARCH
)
"""What every answer says that rests on nano's encoders, whatever the preset is called."""


class StudiedSlide(Speaking):
    """One slide, ready to be asked; made by :func:`hwsi.inference.study`.

    Attributes:
        features: what was encoded and the model reads.
        slide: the open slide, None if the session was made from features alone.
        warnings: what every answer about this slide must say.
        kept_patches: rows of the patches that the model reads one by one.
        calibration: what was learned of the model beside its weights; None if nothing was.
        looked_at: share of the slide's tissue that the model reads.
    """

    looked_at = 1.0

    def __init__(
        self,
        processor: Any,
        features: SlideFeatures,
        nodes: Sequence[Node],
        *,
        left_out_at: LeftOutAt,
        told: Sequence[str] = (),
        slide: "Slide | None" = None,
        weights_sha256: str = "",
        features_path: str = "",
        calibration: Calibration | None = None,
    ) -> None:
        self.features = features
        self.calibration = calibration
        self.slide = slide
        self._processor = processor
        self._nodes = nodes
        self._tissue = EvidenceMaker(features.hierarchy, nodes, left_out_at)
        self.kept_patches: tuple[int, ...] = tuple(n.index for n in nodes if n.scale == "patch")
        grid = features.hierarchy.regions.grid
        self._regions = {(int(row), int(col)): region_label(r) for r, (row, col) in enumerate(grid)}
        self.warnings: tuple[str, ...] = (
            SYNTHETIC if PATCH.id in features.patch else RESEARCH,
            *told,
            *features.warnings,
            *quality_warnings(features.hierarchy),
        )
        self.provenance = Provenance(
            model=f"hwsi-{features.preset}",
            weights_sha256=weights_sha256,
            preset=features.preset,
            slide=features.slide_name,
            slide_id=features.slide_id,
            features=features_path,
            seed=0,
            hwsi_version=__version__,
        )

    # --- asking -------------------------------------------------------------------------------------

    def say(
        self,
        questions: Sequence[str],
        *,
        max_new_tokens: int = MAX_NEW_TOKENS,
        streams: Sequence[Stream | None] | None = None,
    ) -> list[Said]:
        """Only the words, of several open questions in one batch; :meth:`ask` takes each and says what it rests on.

        Args:
            questions: in words. streams: one for each, as in :meth:`ask`.

        Errors: as of :meth:`ask`, before anything is said.
        """
        asked = [check_question(question) for question in questions]
        return self._say_all(asked, max_new_tokens, streams or [None] * len(asked))

    def say_report(self, stream: Stream | None = None) -> Said:
        """Only the words of a report; :meth:`report` takes them."""
        return self._say(REPORT_PROMPT, REPORT_TOKENS, stream)

    def report_apart(self) -> Apart:
        """A report made ready for the ``speaker``, as :meth:`apart` does of a question."""
        return self.apart(REPORT_PROMPT, REPORT_TOKENS)

    def ask(
        self,
        question: str,
        choices: Sequence[str] | None = None,
        *,
        evidence: bool | Mode = True,
        risk: float | None = None,
        max_new_tokens: int = MAX_NEW_TOKENS,
        stream: Stream | None = None,
        said: Said | None = None,
    ) -> Answer:
        """Answer one question.

        Args:
            question: in words.
            choices: options of a closed question; the likeliest is the answer.
            evidence: whether to measure what the answer rests on (most of the time of a question), and how; True is
                ``verify``.
            risk: of a closed question, the share of wrong answers that is accepted; surer ones only are given.
            max_new_tokens: an open answer ends there if it has not ended before.
            stream: called with each piece of the text as it comes; the pieces join to ``text``.
            said: the words of an open question, where :meth:`say` made them before.

        Errors: question_empty, question_too_long, question_invalid; option_invalid for a risk of an open question, or
            one that the model's calibration cannot show, and for ``cheap`` where the model's kind has none.
        """
        question, options = check_question(question), check_choices(choices)
        if options:
            return self._closed(question, options, evidence=evidence, risk=risk, stream=stream)
        if risk is not None:
            raise HwsiError(Reason.OPTION_INVALID, "a risk of an open question", "give its options with --choices")
        return self._open(question, said or self._say(question, max_new_tokens, stream), evidence=evidence)

    def caption(self, *, evidence: bool | Mode = True, stream: Stream | None = None) -> Answer:
        """The slide in one sentence."""
        return self._open(CAPTION_PROMPT, self._say(CAPTION_PROMPT, MAX_NEW_TOKENS, stream), evidence=evidence)

    def report(self, *, evidence: bool | Mode = True, stream: Stream | None = None, said: Said | None = None) -> Report:
        """The slide in a paragraph, each sentence with the labels that it cites and the tissue that it rests on.

        ``said`` are its words, where :meth:`say_report` made them before.
        """
        said = said or self.say_report(stream)
        spans, members = self._sentences(said)
        seen, blind = self._answer_scores(said)(None)
        reliance = [_mean(seen[mine] - blind[mine]) for mine in members]
        claims = self._said_claims(said, members, reliance)
        found = self._found(claims, evidence if spans else False, SENTENCE_EVIDENCE, lead=2)
        worth = found.worth if found else None
        known = self._tissue.labels
        statements = []
        for u, (start, end) in enumerate(spans):
            text, mine = said.text[start:end], members[u]
            cites, missing = citations(text, known)
            statements.append(
                Statement(
                    text=text,
                    cites=cites,
                    missing=missing,
                    rests_on=self._rests_on(worth, u, cites),
                    evidence=self._evidence(worth, u, text, SENTENCE_EVIDENCE),
                    visual_reliance=reliance[u],
                    confidence=float(np.exp(_mean(seen[mine]))),
                    support=found.support[u] if found else None,
                )
            )
        return Report(
            text=said.text,
            statements=tuple(statements),
            visual_reliance=_mean(seen - blind),
            confidence=float(np.exp(_mean(seen))),
            provenance=self.provenance,
            warnings=self.warnings,
        )

    def sentence_claims(self, said: Said) -> Claims:
        """The sentences of a report, as evidence is measured on them."""
        _, members = self._sentences(said)
        seen, blind = self._answer_scores(said)(None)
        return self._said_claims(said, members, [_mean(seen[mine] - blind[mine]) for mine in members])

    def _sentences(self, said: Said) -> tuple[list[tuple[int, int]], Bool]:
        """Spans of the sentences, and which tokens (U, T) are whose."""
        spans = sentences(said.text)
        unit = _units(token_ends(self._processor, said.ids), spans)
        members = np.stack([unit == u for u in range(len(spans))]) if spans else np.zeros((0, len(unit)), bool)
        return spans, members

    def choice_log_probs(self, question: str, choices: Sequence[str]) -> tuple[Float64, Float64]:
        """Summed log-probabilities of each option with its end token: with the slide (C,), and without it (C,).

        Errors: as of :meth:`ask`.
        """
        seen, blind = self._option_scores(check_question(question), check_choices(choices))(None)
        return seen, blind

    def choose(self, question: str, choices: Sequence[str], option: int | None = None) -> Chosen:
        """The likeliest option, or a given one, with what its evidence is measured on; errors as of :meth:`ask`."""
        question, options = check_question(question), check_choices(choices)
        scores = self._option_scores(question, options)
        seen, blind = scores(None)
        chosen = int(seen.argmax()) if option is None else option
        reliance = float((seen[chosen] - blind[chosen]) / len(self._processor.answer(options[chosen])))
        claims = self._claims(
            lambda nodes: log_odds(scores(nodes), chosen)[:, None],
            (reliance,),
            self._option_slopes(question, options, chosen),
            self._option_cells(question, options, chosen),
        )
        return Chosen(options, seen, blind, chosen, claims, scores)

    def heat(
        self, question: str, choices: Sequence[str] | None = None, *, max_new_tokens: int = MAX_NEW_TOKENS
    ) -> tuple[Evidence, ...]:
        """What every region and patch that the model reads is worth to its answer, below zero too: a map of the slide.

        Errors: as of :meth:`ask`.
        """
        if choices:
            chosen = self.choose(question, choices)
            claims, text = chosen.claims, chosen.options[chosen.chosen]
        else:
            said = self.say([question], max_new_tokens=max_new_tokens)[0]
            claims, text = self._said_claims(said, np.ones((1, len(said.ids)), bool), [0.0]), said.text
        nodes = [n for n, node in enumerate(self._nodes) if node.scale in ("region", "patch")]
        worth = marginals(self._parents, nodes, claims.value)[:, 0]
        return tuple(self._tissue.make(n, float(w), text) for n, w in zip(nodes, worth, strict=True))

    def _open(self, question: str, said: Said, *, evidence: bool | Mode) -> Answer:
        seen, blind = self._answer_scores(said)(None)
        reliance = _mean(seen - blind)
        found = self._found(self._said_claims(said, np.ones((1, len(said.ids)), bool), [reliance]), evidence)
        _, missing = citations(said.text, self._tissue.labels)
        named = tuple(f"The answer cites {label}, which this slide does not have." for label in missing)
        return Answer(
            question=question,
            text=said.text,
            evidence=self._evidence(found.worth if found else None, 0, said.text, MAX_EVIDENCE),
            visual_reliance=reliance,
            confidence=float(np.exp(_mean(seen))),
            provenance=self.provenance,
            warnings=(*self.warnings, *named),
            looked_at=self.looked_at,
            **about(found),
        )

    def _closed(
        self,
        question: str,
        options: tuple[str, ...],
        *,
        evidence: bool | Mode,
        risk: float | None,
        stream: Stream | None,
    ) -> Answer:
        least = self._threshold(risk)
        c = self.choose(question, options)
        probs = option_probs(c.seen)
        known = self.calibration.confidence(known_closed(c.seen, c.blind)) if self.calibration else None
        calibrated = None if known is None else float(known[0])
        withheld = least is not None and calibrated is not None and calibrated < least
        text = WITHHELD if withheld else options[c.chosen]
        if stream is not None:
            stream(text)
        found = None if withheld else self._found(c.claims, evidence)
        more = {"support": not_judged(0.0, Verdict.ABSTAIN)} if withheld else about(found)
        # single cells are weighed by passes of their own
        cells = None if found is None or found.mode is Mode.CHEAP else c.claims.cells
        return Answer(
            question=question,
            text=text,
            evidence=self._evidence(found.worth if found else None, 0, text, MAX_EVIDENCE, cells),
            visual_reliance=c.claims.reliance[0],
            confidence=float(probs[c.chosen]),
            provenance=self.provenance,
            choices=options,
            choice_probs=tuple(float(p) for p in probs),
            warnings=self.warnings,
            calibrated=calibrated,
            withheld=withheld,
            looked_at=self.looked_at,
            **more,
        )

    def _threshold(self, risk: float | None) -> float | None:
        if risk is None:
            return None
        if self.calibration is None:
            what = f"{self.provenance.model} was not calibrated, so no risk can be promised"
            raise HwsiError(Reason.OPTION_INVALID, what, "run hwsi bench evidence calibrate, or ask without a risk")
        return self.calibration.threshold(risk)

    # --- the slide ----------------------------------------------------------------------------------

    def region_at(self, row: int, col: int) -> str | None:
        """Label of the region at a place of the region grid; None if it has no tissue."""
        return self._regions.get((row, col))

    def need_slide(self) -> "Slide":
        """The open slide.

        Errors: slide_missing, if the session was made from features alone.
        """
        if self.slide is None:
            what = f"the session of {self.features.slide_name} has features but no slide"
            raise HwsiError(Reason.SLIDE_MISSING, what, "study the slide's file to get pictures")
        return self.slide

    def close(self) -> None:
        """Close the slide."""
        if self.slide is not None:
            self.slide.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _units(ends: Sequence[int], spans: Sequence[tuple[int, int]]) -> NDArray[np.int64]:
    """Index (T,) of the sentence that each token belongs to, from where the token's words end in the text."""
    last = np.array([end for _, end in spans], np.int64)
    return np.minimum(np.searchsorted(last, np.asarray(ends)), max(len(spans) - 1, 0))


def _mean(x: Float64) -> float:
    return float(x.mean()) if len(x) else 0.0
