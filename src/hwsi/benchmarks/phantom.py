"""The phantom benchmark: closed questions on slides made on the spot, and whether the model looks.

- The slides' seeds belong to the split ``test``, which no training cohort can hold; wordings that training never
  saw are among the questions.
- Questions are balanced: within organ and kind every answer is as frequent as any other, so that neither organ nor
  wording tells it. ``majority`` is what the most frequent answer of each organ and kind would still reach.
- The same model answers three times: with the slide, without any slide, and with another slide's features. A model
  that looks falls to the majority twice.
- Intervals are 95 % by resampling slides, not questions: questions of one slide are not independent.
"""

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np

from hwsi.hierarchy.labels import region_label
from hwsi.phantom.cohort import write_cohort
from hwsi.phantom.questions import balance, majority_accuracy, slide_of
from hwsi.phantom.truth import fill_labels, load_truth
from hwsi.phantom.wordings import REFUSAL

if TYPE_CHECKING:
    from rich.table import Table

    from hwsi.inference.session import Session

SCALES = ("cell", "patch", "region", "slide")
CONDITIONS = ("slide", "none", "other")
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Row:
    """One question and what was answered under each condition."""

    id: str
    kind: str
    scale: str
    organ: str
    answer: str
    given: dict[str, str]


@dataclass(frozen=True)
class Result:
    """All that was measured.

    Attributes:
        rows: closed questions. majority: accuracy of the most frequent answer, overall and per scale.
        refused: share of unanswerable questions that were refused, ``refused_wrongly`` of answerable ones.
    """

    model: str
    slides: int
    seed: int
    rows: tuple[Row, ...]
    majority: dict[str, float]
    refused: float
    refused_wrongly: float
    warnings: tuple[str, ...] = field(default=("Phantom slides only: these figures say nothing about real tissue.",))

    def accuracy(self, condition: str, scale: str | None = None) -> float:
        """Share of right answers; nan without questions."""
        right = [r.given[condition] == r.answer for r in self.rows if scale in (None, r.scale)]
        return float(np.mean(right)) if right else float("nan")

    def interval(self, condition: str, scale: str | None = None, draws: int = 1000) -> tuple[float, float]:
        """95 % interval of the accuracy, by resampling slides."""
        by_slide: dict[str, list[bool]] = {}
        for r in self.rows:
            if scale in (None, r.scale):
                by_slide.setdefault(r.id.rsplit("/", 2)[0], []).append(r.given[condition] == r.answer)
        if not by_slide:
            return float("nan"), float("nan")
        right = np.array([sum(v) for v in by_slide.values()])
        total = np.array([len(v) for v in by_slide.values()])
        picked = np.random.default_rng(0).integers(len(right), size=(draws, len(right)))
        low, high = np.quantile(right[picked].sum(1) / total[picked].sum(1), (0.025, 0.975))
        return float(low), float(high)

    def to_dict(self) -> dict[str, Any]:
        """Plain data, with the accuracies of the table."""
        table = {
            scale or "all": {c: self.accuracy(c, scale) for c in CONDITIONS}
            | {"majority": self.majority[scale or "all"], "questions": self._count(scale)}
            for scale in (None, *SCALES)
        }
        kinds = {
            kind: float(np.mean([r.given["slide"] == r.answer for r in self.rows if r.kind == kind]))
            for kind in sorted({r.kind for r in self.rows})
        }
        return {**asdict(self), "accuracy": table, "kinds": kinds}

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
                f"{self.accuracy('slide', scale):.3f}",
                f"{low:.2f}-{high:.2f}",
                f"{self.accuracy('none', scale):.3f}",
                f"{self.accuracy('other', scale):.3f}",
                f"{self.majority[scale or 'all']:.3f}",
                end_section=scale == SCALES[-1],
            )
        table.caption = (
            f"unanswerable questions refused: {self.refused:.2f}; answerable ones refused: {self.refused_wrongly:.2f}\n"
            + "\n".join(self.warnings)
        )
        return table


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
    (out / "result.json").write_text(json.dumps(result.to_dict(), indent=2, allow_nan=True))
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
    every = [q for t in truths for q in t["questions"]]
    asked = balance(every, organ_of, seed)
    sessions: list[Session] = []
    for i, path in enumerate(paths):
        with study(path, preset=model, out=out / "job") as session:
            sessions.append(session)
        say("slides encoded", i + 1, len(paths))
    of_slide = {t["slide_id"]: i for i, t in enumerate(truths)}
    # a fixed rotation: every slide lends its features to exactly one other
    rows = []
    for n, q in enumerate(asked):
        i = of_slide[slide_of(q)]
        other = sessions[(i + 1 + len(sessions) // 2) % len(sessions)] if len(sessions) > 1 else sessions[i]
        rows.append(_ask(q, organ_of[slide_of(q)], sessions[i], other))
        say("questions", n + 1, len(asked))
    refused, wrongly = _refusals(truths, sessions)
    groups = {"all": asked, **{s: [q for q in asked if q["scale"] == s] for s in SCALES}}
    majority = {name: majority_accuracy(questions, organ_of) for name, questions in groups.items()}
    return Result(model, len(paths), seed, tuple(rows), majority, refused, wrongly)


def _words(question: dict[str, Any], session: "Session") -> str:
    grid = session.features.hierarchy.regions.grid
    known = {(int(row), int(col)): region_label(i) for i, (row, col) in enumerate(grid)}
    return fill_labels(question["question"], lambda row, col: known.get((row, col)))


def _ask(question: dict[str, Any], organ: str, session: "Session", other: "Session") -> Row:
    words, choices = _words(question, session), question["choices"]
    seen, blind = session.choice_log_probs(words, choices)
    swapped, _ = other.choice_log_probs(words, choices)
    given = {c: choices[int(np.argmax(p))] for c, p in zip(CONDITIONS, (seen, blind, swapped), strict=True)}
    return Row(question["id"], question["kind"], question["scale"], organ, question["answer"], given)


def _refusals(truths: Sequence[dict[str, Any]], sessions: Sequence["Session"]) -> tuple[float, float]:
    """Shares of open-asked questions that were refused: of unanswerable ones, and of as many answerable ones."""
    refused: dict[bool, list[bool]] = {True: [], False: []}
    for truth, session in zip(truths, sessions, strict=True):
        cannot = [q for q in truth["questions"] if not q["answerable"]]
        can = [q for q in truth["questions"] if q["answerable"]][: len(cannot)]
        for q in (*cannot, *can):
            text = session.ask(_words(q, session), evidence=False).text
            refused[q["answerable"]].append(text.startswith(REFUSAL))
    return tuple(float(np.mean(v)) if v else float("nan") for v in (refused[False], refused[True]))  # type: ignore[return-value]
