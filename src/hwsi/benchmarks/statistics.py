"""How sure a figure is, and whether two runs differ.

- A figure is a function of how often each row counts (``Figure``): all ones gives the figure itself, a resample gives
  it on other patients. So accuracy, corpus BLEU and a C-index have intervals in the same way.
- Patients are drawn, not rows: questions about one slide, and slides of one patient, are not independent.
- Two runs are compared on the same draws, so what is hard for both cancels out.
- Deterministic: the same rows in any order, with the same seed, give the same numbers.

Notation: n rows, P patients.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hwsi.errors import HwsiError, Reason

FloatArray = NDArray[np.float64]
Figure = Callable[[FloatArray], float]
"""How often each row counts, float64 (n,) -> the figure; nan where it has none."""


@dataclass(frozen=True, eq=False)
class SumFigure:
    """A figure that depends on sums over rows alone.

    Attributes:
        rows: float64 (n, k), what each row adds. of_sums: (k,) -> the figure.
    """

    rows: FloatArray
    of_sums: Callable[[FloatArray], float]

    def __call__(self, counts: FloatArray) -> float:
        """The figure when row i counts ``counts[i]`` times."""
        return self.of_sums(counts @ self.rows)


def ratio(above: float, below: float) -> float:
    """``above / below``; nan over nothing."""
    return float(above / below) if below else math.nan


def mean_of(scores: ArrayLike) -> SumFigure:
    """The mean of a score per row, (n,)."""
    values = np.asarray(scores, np.float64).reshape(-1)
    return SumFigure(np.stack([values, np.ones_like(values)], 1), lambda s: ratio(s[0], s[1]))


def macro_of(scores: ArrayLike, groups: Sequence[str]) -> SumFigure:
    """The mean over groups of each group's mean; a group that a resample lacks is left out of it."""
    values = np.asarray(scores, np.float64).reshape(-1)
    members = _one_hot(groups)
    k = members.shape[1]

    def of_sums(sums: FloatArray) -> float:
        there = sums[k:] > 0
        return float(np.mean(sums[:k][there] / sums[k:][there])) if there.any() else math.nan

    return SumFigure(np.concatenate([members * values[:, None], members], 1), of_sums)


def _one_hot(groups: Sequence[str]) -> FloatArray:
    _, index = np.unique(np.asarray(groups, dtype=object).astype(str), return_inverse=True)
    return np.eye(int(index.max()) + 1 if len(index) else 0, dtype=np.float64)[index]


@dataclass(frozen=True)
class Interval:
    """A figure with its percentile interval.

    Attributes:
        value: the figure on all rows. low, high: None where there are fewer than two patients.
        rows, patients: what it rests on. level: of the interval.
    """

    value: float | None
    low: float | None
    high: float | None
    rows: int
    patients: int
    level: float = 0.95


def _number(value: float) -> float | None:
    """None for nan, which JSON has not."""
    return None if math.isnan(value) else float(value)


def bootstrap(
    figure: Figure, patients: Sequence[str], *, resamples: int = 2000, seed: int = 0, level: float = 0.95
) -> Interval:
    """The figure and its interval over resampled patients.

    Args:
        patients: whose each of the n rows is. resamples: draws of P patients with replacement. level: of the interval.
    """
    value = figure(np.ones(len(patients)))
    draws = _of_draws(figure, patients, resamples, seed)
    low, high = _percentiles(draws, patients, level)
    return Interval(_number(value), low, high, len(patients), len(set(patients)), level)


def _of_draws(figure: Figure, patients: Sequence[str], resamples: int, seed: int) -> FloatArray:
    """The figure on every resample. Sums over rows are sums over patients, which are fewer and are added up once."""
    counts = _draws(patients, resamples, seed)
    if not isinstance(figure, SumFigure) or not isinstance(counts, _Rows):
        return np.array([figure(row) for row in counts])
    sums = np.zeros((counts.patients.shape[1], figure.rows.shape[1]))
    np.add.at(sums, counts.patient_of, figure.rows)
    return np.array([figure.of_sums(row) for row in counts.patients @ sums])


def _draws(patients: Sequence[str], resamples: int, seed: int) -> Sequence[FloatArray]:
    """How often each row counts in every resample."""
    names, index = np.unique(np.asarray(patients, dtype=object).astype(str), return_inverse=True)
    if len(names) < 2:
        return []
    counts = np.random.default_rng(seed).multinomial(len(names), np.full(len(names), 1 / len(names)), size=resamples)
    return _Rows(counts.astype(np.float64), index)


class _Rows(Sequence[Any]):
    """Counts of patients as counts of rows, one resample at a time: all of them at once may not fit."""

    def __init__(self, patients: FloatArray, patient_of: NDArray[np.intp]) -> None:
        self.patients, self.patient_of = patients, patient_of

    def __len__(self) -> int:
        return len(self.patients)

    def __getitem__(self, i: Any) -> Any:
        return self.patients[i][self.patient_of]


def _percentiles(draws: FloatArray, patients: Sequence[str], level: float) -> tuple[float | None, float | None]:
    draws = draws[~np.isnan(draws)] if len(draws) else draws
    if not len(draws):
        return None, None
    low, high = np.quantile(draws, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


@dataclass(frozen=True)
class Comparison:
    """Run A minus run B on the same rows.

    Attributes:
        difference: with its interval, from the paired bootstrap over patients.
        p_bootstrap: two-sided, the share of resamples on the other side of zero, doubled.
        p_permutation: two-sided, the runs' scores swapped patient by patient.
        p_mcnemar: two-sided and exact, over rows as if they were independent; None unless every score is 0 or 1.
    """

    difference: Interval
    p_bootstrap: float
    p_permutation: float
    p_mcnemar: float | None


def compare(
    a: Mapping[str, float],
    b: Mapping[str, float],
    patient_of: Mapping[str, str],
    *,
    resamples: int = 2000,
    seed: int = 0,
) -> Comparison:
    """Compare the mean score of two runs.

    Args:
        a, b: row id -> score. patient_of: row id -> patient.

    Raises:
        HwsiError: DATA_INVALID where the runs did not answer the same rows.
    """
    if a.keys() != b.keys():
        only = sorted(a.keys() ^ b.keys())
        raise HwsiError(
            Reason.DATA_INVALID,
            f"{len(only)} rows were scored in one run only, {only[0]!r} the first of them",
            "compare runs of the same benchmark, version and task",
        )
    if not a:
        raise HwsiError(Reason.DATA_INVALID, "the runs have no rows", "run the benchmark first")
    ids = sorted(a)
    patients = [patient_of[i] for i in ids]
    x, y = (np.array([scores[i] for i in ids], np.float64) for scores in (a, b))
    difference = mean_of(x - y)
    draws = np.array([difference(counts) for counts in _draws(patients, resamples, seed)])
    low, high = _percentiles(draws, patients, 0.95)
    interval = Interval(float(np.mean(x - y)), low, high, len(ids), len(set(patients)))
    sides = 1 + min(int((draws <= 0).sum()), int((draws >= 0).sum()))
    binary = bool(np.isin(np.concatenate([x, y]), (0.0, 1.0)).all())
    return Comparison(
        interval,
        min(1.0, 2 * sides / (len(draws) + 1)),
        permutation_p(x, y, patients, permutations=resamples, seed=seed),
        mcnemar_p(x > 0, y > 0) if binary else None,
    )


def permutation_p(
    a: ArrayLike, b: ArrayLike, patients: Sequence[str], *, permutations: int = 2000, seed: int = 0
) -> float:
    """Two-sided p of the mean difference when each patient's rows are swapped between the runs as a whole.

    Args:
        a, b: scores (n,) of the same rows.
    """
    gaps = np.asarray(a, np.float64) - np.asarray(b, np.float64)
    names, index = np.unique(np.asarray(patients, dtype=object).astype(str), return_inverse=True)
    sums = np.bincount(index, gaps, minlength=len(names))
    signs = np.random.default_rng(seed).integers(0, 2, size=(permutations, len(names))) * 2 - 1
    reached = np.abs(signs @ sums) >= abs(sums.sum()) - 1e-9
    return float((1 + int(reached.sum())) / (permutations + 1))


def mcnemar_p(right_a: ArrayLike, right_b: ArrayLike) -> float:
    """McNemar's exact test: two-sided p that the rows which only one run has right fall evenly; 1 if there are none.

    It takes rows as independent. Where patients have several rows, ``permutation_p`` is the one to trust.
    """
    a, b = np.asarray(right_a, bool), np.asarray(right_b, bool)
    only_a, only_b = int((a & ~b).sum()), int((b & ~a).sum())
    n, k = only_a + only_b, min(only_a, only_b)
    tail = sum(math.comb(n, i) for i in range(k + 1))
    return min(1.0, 2 * tail / (1 << n))
