"""One case before the model: all that is asked of it, its own records and those that it is lent.

- A closed question is asked twice over: by the likelihood of its options, in their order and in shuffled ones, and in
  words, which the strict parser reads. Classes are asked by likelihood alone.
- Of several slides of a case the log-probabilities of options are averaged; words are those of the first slide.
- Deterministic: greedy words; shuffles follow from the record and the seed.
- What the model refuses (too long, too many options) is a fault of that record alone, and is counted.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from hwsi.benchmarks.datasets.record import Record
from hwsi.benchmarks.metrics.closed import shuffled
from hwsi.benchmarks.running.plan import Case, Form, form_of
from hwsi.errors import HwsiError
from hwsi.inference import studied
from hwsi.inference.closed import option_probs
from hwsi.inference.tasks import CAPTION_PROMPT, REPORT_PROMPT
from hwsi.model.prompt import question_text

if TYPE_CHECKING:
    from hwsi.inference.studied import StudiedSlide

Answers = dict[str, Any]
"""JSON-ready. Of a closed record ``log_p`` and ``blind`` (C,) with and without the slide, ``shuffled`` (orders, C) with
the options back in their own order, ``said``; of any other ``said``; of one that could not be asked ``fault``."""

Words = Callable[[Record], str | None]
"""The question of a record as it is put; None if it is about a region that was not found."""

REGION_NOT_FOUND = "region_not_found"
CHOICE_TOKENS = 64
"""An option in words is not longer."""


def ask_case(
    case: Case,
    lent: Sequence[Record],
    sessions: Sequence["StudiedSlide"],
    words: Words,
    *,
    forms: frozenset[Form],
    seed: int,
    orders: int,
) -> dict[str, dict[str, Answers]]:
    """Ask everything of one case.

    Args:
        case: its records are asked in full. lent: records of other cases, asked of this one's slides once.
        sessions: of the case's slides.
        words: of each record's question.
        forms: which records are asked; others are passed over. seed, orders: of shuffled options.

    Returns:
        ``own`` and ``lent``: key of a record -> its answers.
    """
    before = _Slides(sessions)
    own = {r.key: before.answer(r, words(r), seed, orders) for r in case.records if form_of(r) in forms}
    others = {r.key: before.answer_briefly(r, words(r)) for r in lent if form_of(r) in forms}
    return {"own": own, "lent": others}


class _Slides:
    """The slides of a case; what was said to the same words is not said again."""

    def __init__(self, sessions: Sequence["StudiedSlide"]) -> None:
        self._sessions = sessions
        self._said: dict[tuple[str, str], str] = {}

    def answer(self, record: Record, question: str | None, seed: int, orders: int) -> Answers:
        if question is None:
            return {"fault": REGION_NOT_FOUND}
        try:
            if not record.choices:
                return {"said": self._say(form_of(record), question)}
            seen, blind = self._log_p(question, record.choices)
            made: Answers = {"log_p": seen, "blind": blind, "shuffled": []}
            for k in range(orders):
                order = shuffled(record.choices, record.key, seed + k)
                moved, _ = self._log_p(question, [record.choices[o] for o in order])
                made["shuffled"].append([moved[order.index(i)] for i in range(len(order))])
            if form_of(record) == "closed":
                made["said"] = self._say("closed", question_text(question, record.choices))
            return made
        except HwsiError as error:
            return {"fault": error.reason.value}

    def answer_briefly(self, record: Record, question: str | None) -> Answers:
        """Options in their own order, or words."""
        if question is None:
            return {"fault": REGION_NOT_FOUND}
        try:
            if record.choices:
                return {"log_p": self._log_p(question, record.choices)[0]}
            return {"said": self._say(form_of(record), question)}
        except HwsiError as error:
            return {"fault": error.reason.value}

    def _log_p(self, question: str, choices: Sequence[str]) -> tuple[list[float], list[float]]:
        """Log-probabilities of the options, a mean over slides: with the slide, and without."""
        each = [session.choice_log_probs(question, choices) for session in self._sessions]
        seen, blind = (np.mean([np.log(np.maximum(option_probs(way), 1e-300)) for way in ways], 0)
                       for ways in zip(*each, strict=True))  # fmt: skip
        return [round(float(v), 6) for v in seen], [round(float(v), 6) for v in blind]

    def _say(self, form: Form, question: str) -> str:
        key = (form, question)
        if key not in self._said:
            first = self._sessions[0]
            if form in ("report", "caption") and not question:
                self._said[key] = (first.report if form == "report" else first.caption)(evidence=False).text
            else:
                most = CHOICE_TOKENS if form == "closed" else studied.REPORT_TOKENS
                self._said[key] = first.ask(question, evidence=False, max_new_tokens=most).text
        return self._said[key]


def blind_question(record: Record, question: str) -> str:
    """The words that an open record is asked by when there is no slide: its own, or those of its task."""
    return question or (REPORT_PROMPT if form_of(record) == "report" else CAPTION_PROMPT)


def merged(parts: Sequence[Mapping[str, Mapping[str, Answers]]], side: str) -> dict[str, Answers]:
    """Answers of all cases: ``own``, or ``lent``."""
    return {key: answers for part in parts for key, answers in part[side].items()}
