"""A measure's line: its figure with an interval by patient, what must hold, and what stands beside it as a control."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from hwsi.benchmarks.statistics import Figure, Interval, bootstrap, mean_of


@dataclass(frozen=True)
class Line:
    """One line of the table.

    Attributes:
        measure: which command makes it. what: in words.
        value: the figure; None where nothing could be measured. low, high: 95 % over patients.
        n, patients: what it rests on.
        floor, aim: what must and should be reached; None for a control or a figure without a promise.
        less: True where a smaller figure is a better one.
        beside: controls, by name.
    """

    measure: str
    what: str
    value: float | None
    low: float | None = None
    high: float | None = None
    n: int = 0
    patients: int = 0
    floor: float | None = None
    aim: float | None = None
    less: bool = False
    beside: Mapping[str, float] = field(default_factory=dict)

    @property
    def holds(self) -> bool | None:
        """Whether the floor is reached; None where there is none, or no figure."""
        if self.floor is None or self.value is None:
            return None
        return self.value <= self.floor if self.less else self.value >= self.floor

    def plain(self) -> dict[str, Any]:
        """Plain JSON-ready data."""
        names = ("measure", "what", "value", "low", "high", "n", "patients", "floor", "aim", "less", "holds")
        beside = {k: None if math.isnan(v) else v for k, v in self.beside.items()}
        return {name: getattr(self, name) for name in names} | {"beside": beside}


def line(
    measure: str, what: str, scores: Sequence[float], patients: Sequence[str], *, figure: Figure | None = None,
    **more: Any,
) -> Line:  # fmt: skip
    """A line of the mean of a score per row, or of another figure of the rows; rows without a score are left out."""
    kept = [i for i, s in enumerate(scores) if not math.isnan(s)]
    if not kept:
        return Line(measure, what, None, **more)
    found: Interval = bootstrap(
        figure or mean_of([scores[i] for i in kept]), [patients[i] for i in kept], resamples=1000
    )
    return Line(measure, what, found.value, found.low, found.high, found.rows, found.patients, **more)


def read_line(plain: Mapping[str, Any]) -> Line:
    """A line from its plain data."""
    rest = {k: v for k, v in plain.items() if k not in ("holds", "beside")}
    beside = {k: math.nan if v is None else v for k, v in plain["beside"].items()}
    return Line(**rest, beside=beside)
