"""Metrics that an extension adds: each stands beside ours in the results of the forms that it is of.

- A metric is a figure (``statistics.py``): given how often each row counts it gives a number, so it has an interval by
  patient, and every baseline is scored by it, too.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from hwsi import extensions
from hwsi.benchmarks.datasets.record import Record
from hwsi.benchmarks.statistics import Figure

_ADDED: dict[str, "Metric"] = {}


@dataclass(frozen=True)
class Metric:
    """One figure more.

    Attributes:
        name: in results. forms: ``closed``, ``classify``, ``open``, ``report``, ``caption``: of these results.
        figure: (records, what was given to each) -> the figure. What was given is the text of an option, or None
            where none could be read (closed, classify), or words (the others).
    """

    name: str
    forms: tuple[str, ...]
    figure: Callable[[Sequence[Record], Sequence[str | None]], Figure]


def register(metric: Metric) -> Metric:
    """Add ``metric``. A second one of the same name is a bug of the caller: ValueError."""
    if _ADDED.setdefault(metric.name, metric) != metric:
        raise ValueError(f"there is a metric {metric.name} already")
    return metric


def with_added(
    form: str, own: Mapping[str, Figure], records: Sequence[Record], given: Sequence[str | None]
) -> dict[str, Figure]:
    """Our own figures of a form and those that were added. A name that is ours is a bug of who added it: ValueError."""
    extensions.load()
    more = {m.name: m.figure(records, given) for m in _ADDED.values() if form in m.forms}
    if taken := sorted(own.keys() & more):
        raise ValueError(f"there is a metric {taken[0]} already")
    return {**own, **more}
