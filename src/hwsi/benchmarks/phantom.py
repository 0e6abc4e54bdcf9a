"""The phantom benchmark: closed questions on slides made on the spot, and whether the model looks.

- The slides' seeds belong to the split ``test``, which no training cohort can hold; wordings that training never
  saw are among the questions.
- Questions are balanced: within organ and kind every answer is as frequent as any other, so that neither organ nor
  wording tells it. ``majority`` is what the most frequent answer of each organ and kind would still reach.
- The same model answers three times: with the slide, without any slide, and with another slide's features. A model
  that looks falls to the majority twice.
- The other slide is of the same organ, so that the question still makes sense and only the answer can tell the two
  apart (a colon under a question about the breast would fail for a cheaper reason); and of another patient, since
  twins differ in one attribute only. Its own answer is not looked at: it agrees by luck as often as the majority.
- A question about a region that our tissue finder left out cannot be asked: it is counted, not answered.
- Intervals are 95 % by resampling patients, not questions: questions of one slide are not independent, nor are twins.
- The model also writes the report of every slide: facts found, missed and invented (``reports.py``).
"""

import json
import math
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np

from hwsi.benchmarks.reports import NO_REPORTS, Reports, write_reports
from hwsi.benchmarks.running.plan import partners
from hwsi.features.atomic import write_atomic
from hwsi.phantom.cohort import write_cohort
from hwsi.phantom.questions import balance, majority_accuracy, slide_of
from hwsi.phantom.truth import cited, fill_labels, load_truth
from hwsi.phantom.wordings import REFUSAL

if TYPE_CHECKING:
    from rich.table import Table

    from hwsi.inference.studied import StudiedSlide

SCALES = ("cell", "patch", "region", "slide")
CONDITIONS = ("slide", "none", "other")
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Row:
    """One question and what was answered under each condition; None where there was no other slide."""

    id: str
    kind: str
    scale: str
    organ: str
    patient: str
    answer: str
    given: dict[str, str | None]

    def right(self, condition: str) -> bool | None:
        """Whether the answer under a condition is right; None if there is none."""
        given = self.given[condition]
        return None if given is None else given == self.answer


@dataclass(frozen=True)
class Result:
    """All that was measured.

    Attributes:
        rows: closed questions. majority: accuracy of the most frequent answer, overall and per scale.
        refused: share of unanswerable questions that were refused, ``refused_wrongly`` of answerable ones.
        left_out: closed questions about regions that our tissue finder left out.
        reports: facts of the reports that the model wrote.
    """

    model: str
    slides: int
    seed: int
    rows: tuple[Row, ...]
    majority: dict[str, float]
    refused: float
    refused_wrongly: float
    left_out: int = 0
    reports: Reports = NO_REPORTS
    warnings: tuple[str, ...] = field(default=("Phantom slides only: these figures say nothing about real tissue.",))

    def accuracy(self, condition: str, scale: str | None = None) -> float:
        """Share of right answers; nan without answers."""
        right = [ok for r in self.rows if scale in (None, r.scale) and (ok := r.right(condition)) is not None]
        return float(np.mean(right)) if right else float("nan")

    def interval(self, condition: str, scale: str | None = None, draws: int = 1000) -> tuple[float, float]:
        """95 % interval of the accuracy, by resampling patients."""
        of: dict[str, list[bool]] = {}
        for r in self.rows:
            if scale in (None, r.scale) and (ok := r.right(condition)) is not None:
                of.setdefault(r.patient, []).append(ok)
        if not of:
            return float("nan"), float("nan")
        right = np.array([sum(v) for v in of.values()])
        total = np.array([len(v) for v in of.values()])
        picked = np.random.default_rng(0).integers(len(right), size=(draws, len(right)))
        low, high = np.quantile(right[picked].sum(1) / total[picked].sum(1), (0.025, 0.975))
        return float(low), float(high)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON-ready data, with the accuracies of the table; None where there is nothing to average."""
        table = {
            scale or "all": {c: self.accuracy(c, scale) for c in CONDITIONS}
            | {"majority": self.majority[scale or "all"], "questions": self._count(scale)}
            | {"interval": list(self.interval("slide", scale))}
            for scale in (None, *SCALES)
        }
        kinds = {
            kind: float(np.mean([bool(r.right("slide")) for r in self.rows if r.kind == kind]))
            for kind in sorted({r.kind for r in self.rows})
        }
        told = asdict(replace(self, reports=NO_REPORTS))  # counters are no plain data
        more = {"accuracy": table, "kinds": kinds, "reports": self.reports.to_dict()}
        return _plain({**told, **more})  # type: ignore[no-any-return]

    def _count(self, scale: str | None) -> int:
        return sum(scale in (None, r.scale) for r in self.rows)

    def table(self) -> "Table":
        """The accuracies as a table for the terminal."""
        from rich.table import Table

        table = Table(title=f"phantom benchmark: {self.model}, {self.slides} slides, seed {self.seed}")
        for name in (
            "scale",
            "questions",
            "with the slide",
            "95 %",
            "without slide",
            "another slide",
            "majority",
        ):
            table.add_column(name, justify="left" if name == "scale" else "right")
        for scale in (*SCALES, None):
            low, high = self.interval("slide", scale)
            table.add_row(
                scale or "all",
                str(self._count(scale)),
                _digits(self.accuracy("slide", scale)),
                f"{_digits(low, 2)}-{_digits(high, 2)}",
                _digits(self.accuracy("none", scale)),
                _digits(self.accuracy("other", scale)),
                _digits(self.majority[scale or "all"]),
                end_section=scale == SCALES[-1],
            )
        refused, wrongly = _digits(self.refused, 2), _digits(self.refused_wrongly, 2)
        lines = [f"unanswerable questions refused: {refused}; answerable ones refused: {wrongly}"]
        if self.left_out:
            lines.append(f"{self.left_out} questions were about regions in which no tissue was found")
        table.caption = "\n".join((*lines, *self.reports.lines(), *self.warnings))
        return table


def _digits(value: float, n: int = 3) -> str:
    return "-" if math.isnan(value) else f"{value:.{n}f}"


def _plain(value: Any) -> Any:
    """Without nan, which JSON has not."""
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    return None if isinstance(value, float) and math.isnan(value) else value


def run(
    *,
    model: str = "nano",
    slides: int = 40,
    seed: int = 0,
    out: Path | None = None,
    progress: Progress | None = None,
) -> Result:
    """Draw ``slides`` test slides, encode them, ask, and count.

    Args:
        model: preset. seed: which test slides. out: folder that keeps slides, features and ``result.json``; a second
            run there goes on where the first stopped.
        progress: called with (stage, done, total).
    """
    if out is None:
        with TemporaryDirectory(prefix="hwsi-bench-") as folder:
            return _run(model, slides, seed, Path(folder), progress)
    out.mkdir(parents=True, exist_ok=True)
    result = _run(model, slides, seed, out, progress)
    write_atomic(out / "result.json", json.dumps(result.to_dict(), indent=2, allow_nan=False).encode())
    return result


def _run(model: str, slides: int, seed: int, out: Path, progress: Progress | None) -> Result:
    from hwsi.inference import study

    say = progress or (lambda stage, done, total: None)
    cohort = out / "cohort"
    plans = write_cohort(
        cohort,
        slides,
        seed,
        split="test",
        workers=os.cpu_count() or 1,
        progress=lambda d, t: say("slides drawn", d, t),
    )
    paths = [cohort / (p.slide_id + p.suffix) for p in plans]
    truths = [load_truth(path) for path in paths]
    organ_of = {t["slide_id"]: t["organ"] for t in truths}
    sessions: list[StudiedSlide] = []
    for i, path in enumerate(paths):
        with study(path, preset=model, out=out / "job") as session:
            sessions.append(session)
        say("slides encoded", i + 1, len(paths))
    of_slide = {t["slide_id"]: i for i, t in enumerate(truths)}
    closed = [q for t in truths for q in t["questions"] if q["closed_eval"]]
    can = [q for q in closed if _can_be_asked(q, sessions[of_slide[slide_of(q)]])]
    asked = balance(can, organ_of, seed)
    others = partners([t["organ"] for t in truths], [p.patient_id for p in plans])
    rows = []
    for n, q in enumerate(asked):
        i = of_slide[slide_of(q)]
        j = others[i]
        other = None if j is None else sessions[j]
        rows.append(_ask(q, truths[i]["organ"], plans[i].patient_id, sessions[i], other))
        say("questions", n + 1, len(asked))
    refused, wrongly = _refusals(truths, sessions)
    reports = write_reports(sessions, truths, [p.patient_id for p in plans], say)
    groups = {"all": asked, **{s: [q for q in asked if q["scale"] == s] for s in SCALES}}
    majority = {name: majority_accuracy(questions, organ_of) for name, questions in groups.items()}
    return Result(model, len(paths), seed, tuple(rows), majority, refused, wrongly, len(closed) - len(can), reports)


def _can_be_asked(question: dict[str, Any], session: "StudiedSlide") -> bool:
    return all(session.region_at(*grid) for grid in cited(question["question"]))


def _ask(
    question: dict[str, Any], organ: str, patient: str, session: "StudiedSlide", other: "StudiedSlide | None"
) -> Row:
    words, choices = fill_labels(question["question"], session.region_at), question["choices"]

    def best(log_p: Any) -> str:
        return str(choices[int(np.argmax(log_p))])

    seen, blind = session.choice_log_probs(words, choices)
    given: dict[str, str | None] = {"slide": best(seen), "none": best(blind), "other": None}
    if other is not None:
        given["other"] = best(other.choice_log_probs(words, choices)[0])
    return Row(question["id"], question["kind"], question["scale"], organ, patient, question["answer"], given)


def _refusals(truths: Sequence[dict[str, Any]], sessions: Sequence["StudiedSlide"]) -> tuple[float, float]:
    """Shares of open-asked questions that were refused: of unanswerable ones, and of as many answerable ones."""
    refused: dict[bool, list[bool]] = {True: [], False: []}
    for truth, session in zip(truths, sessions, strict=True):
        every = [q for q in truth["questions"] if _can_be_asked(q, session)]
        cannot = [q for q in every if not q["answerable"]]
        can = [q for q in every if q["answerable"]]
        # spread over the list, which goes by kind
        spread = {len(can) * k // max(1, len(cannot)) for k in range(len(cannot))} if can else set()
        for q in (*cannot, *(can[k] for k in sorted(spread))):
            text = session.ask(fill_labels(q["question"], session.region_at), evidence=False).text
            refused[q["answerable"]].append(text.startswith(REFUSAL))
    return tuple(float(np.mean(v)) if v else float("nan") for v in (refused[False], refused[True]))  # type: ignore[return-value]
