"""From what was answered to a result: the stamp that all results of a run share, and baselines beside the figures.

- A baseline is scored by the same figures, on the records that it can answer at all.
- *chance* has no interval: it follows from the options alone.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from hwsi.benchmarks.datasets.record import Record
from hwsi.benchmarks.results import Prediction, RunResult, hardware, measured, sha_of, versions
from hwsi.benchmarks.statistics import Figure, Interval, SumFigure

Figures = Callable[[Sequence[Record], Sequence[str | None]], Mapping[str, Figure]]
"""Records and what was given to each -> the figures by name."""

CHANCE = "chance"
WITHOUT, OTHER, SHUFFLED = "without the slide", "another slide", "options shuffled"


@dataclass(frozen=True)
class Stamp:
    """What all results of a run share; the fields of :class:`RunResult`."""

    benchmark: str
    version: str
    version_sha: str
    model: str
    unusable: Mapping[str, int]
    seeds: Mapping[str, int]
    notes: tuple[str, ...] = ()
    versions: Mapping[str, str] = field(default_factory=versions)
    hardware: str = field(default_factory=hardware)


@dataclass(frozen=True)
class Scored:
    """A result and what it was made of; ``name`` is that of its files."""

    name: str
    result: RunResult
    predictions: tuple[Prediction, ...]


def scored(
    stamp: Stamp,
    task: str,
    way: str,
    metrics: Mapping[str, Interval],
    baselines: Mapping[str, Mapping[str, Interval]],
    predictions: Sequence[Prediction],
    *,
    profile: str = "",
    unusable: Mapping[str, int] | None = None,
) -> Scored:
    """A result of one way to do a task.

    Args:
        way: how, such as ``likelihood``; empty where there is one way only.
        unusable: reason -> records of this way that the stamp does not count.
    """
    lost = dict(stamp.unusable)
    for reason, n in (unusable or {}).items():
        lost[reason] = lost.get(reason, 0) + n
    result = RunResult(
        benchmark=stamp.benchmark,
        version=stamp.version,
        version_sha=stamp.version_sha,
        task=task,
        model=f"{stamp.model}, {way}" if way else stamp.model,
        profile=profile,
        metrics=dict(metrics),
        baselines={name: dict(figures) for name, figures in baselines.items()},
        rows=len(predictions),
        patients=len({p.patient for p in predictions}),
        unusable=dict(sorted(lost.items())),
        seeds=dict(stamp.seeds),
        versions=dict(stamp.versions),
        hardware=stamp.hardware,
        predictions_sha=sha_of(predictions),
        notes=list(stamp.notes),
    )
    name = "-".join(re.sub(r"[^A-Za-z0-9.]+", "-", part).strip("-") for part in (task, way, profile) if part)
    return Scored(name, result, tuple(predictions))


def predicted(
    records: Sequence[Record], given: Sequence[str], scores: Sequence[Mapping[str, float]]
) -> list[Prediction]:
    """A prediction for each record."""
    return [
        Prediction(r.key, r.whose, r.slide_id, r.task, r.area, said, dict(score))
        for r, said, score in zip(records, given, scores, strict=True)
    ]


def figures_of(figures: Figures, records: Sequence[Record], given: Sequence[str | None]) -> dict[str, Interval]:
    """The figures with their intervals."""
    return measured(figures(records, given), [r.whose for r in records])


def baselines_of(
    figures: Figures, records: Sequence[Record], given: Mapping[str, Sequence[str | None]]
) -> dict[str, dict[str, Interval]]:
    """Figures of baselines: name -> what it answers to each record, None where it cannot be asked."""
    found = {}
    for name, answers in given.items():
        pairs = [(r, a) for r, a in zip(records, answers, strict=True) if a is not None]
        if pairs:
            # a figure of some rows is no figure of all: its name says so
            whole = name if len(pairs) == len(records) else f"{name}, {len(pairs):,} of {len(records):,} rows"
            found[whole] = figures_of(figures, [r for r, _ in pairs], [a for _, a in pairs])
    return found


def exact(value: float, records: Sequence[Record]) -> Interval:
    """A figure without an interval."""
    return Interval(value, None, None, len(records), len({r.whose for r in records}))


def row_scores(figures: Mapping[str, Figure], n: int) -> list[dict[str, float]]:
    """What each row alone is worth by every figure that sums over rows; those without a value are left out."""
    found: list[dict[str, float]] = [{} for _ in range(n)]
    for name, figure in figures.items():
        if isinstance(figure, SumFigure) and len(figure.rows) == n:
            for scores, row in zip(found, figure.rows, strict=True):
                value = figure.of_sums(row)
                if np.isfinite(value):
                    scores[name] = round(float(value), 6)
    return found
