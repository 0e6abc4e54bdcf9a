"""Three ways to find what an answer rests on, from cheap to thorough, with one kind of result.

- ``cheap``: eight random halves of the slide, and what the model's heads looked at under them (``glance.py``). Nothing
  is compared with chance, so its verdict is never *supported*.
- ``verify``: worth by leaving out and keeping alone, coarse to fine (``worth.py``), put to the test (``verdict.py``).
- ``full``: the same, and 64 random halves of the slide, each part of it weighed by a sparse fit that trusts first what
  leaving out found (``sparse.py``). Marginal worth sees single parts, the fit sees them among others: their mean
  predicts other halves better than either. How well is told, on 16 halves that nothing was fitted to.
- All units of an answer share all passes.

Notation: N nodes, U units (claims), B passes.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from scipy.stats import spearmanr

from hwsi.inference.evidence.glance import glance_map
from hwsi.inference.evidence.masks import fixed_size_masks
from hwsi.inference.evidence.sparse import sparse_fit
from hwsi.inference.evidence.verdict import Claim, Support, judge, not_judged
from hwsi.inference.evidence.worth import SLIDE, Bool, Float64, Int, Value, Worth, depths, weigh

HALVES, HELD_OUT = 64, 16
"""Random halves of the slide that ``full`` fits, and those that tell how well it did."""
GLANCES = 8
"""Random halves of ``cheap``."""

Slopes = Callable[[Bool], tuple[Float64, Float64]]
"""Keep masks (B, N) -> values (B, U), and the mean over B of attention times its gradient to each node (U, N)."""


Cells = Callable[[int], Int]
"""A cell node -> rows of the slide's cells that carry the answer."""


class Mode(StrEnum):
    """How what an answer rests on is found."""

    CHEAP = "cheap"
    VERIFY = "verify"
    FULL = "full"


@dataclass(frozen=True)
class Claims:
    """Units of an answer, as far as evidence needs to know them.

    Attributes:
        parent: (N,). place: (N, 2) centres, level-0 px. value: keep masks to nats; see ``worth.py``.
        reliance: U numbers, nats per token over no slide.
        slopes: for ``cheap``; cells: which of a patch's cells are meant; None where the model's kind has none.
    """

    parent: Int
    place: Float64
    value: Value
    reliance: tuple[float, ...]
    slopes: Slopes | None = None
    cells: Cells | None = None


@dataclass(frozen=True)
class Attribution:
    """What an answer rests on.

    Attributes:
        mode: how it was found.
        worth: of the nodes that were looked at, nats, a column for each unit.
        support: the verdict on each unit.
        passes: over the words, each with parts of the slide left out; a pass with its gradient counts as three.
        agreement: for each unit the rank correlation of the map with 16 halves of the slide that it was not made from;
            None but in ``full``.
    """

    mode: Mode
    worth: Worth
    support: tuple[Support, ...]
    passes: int
    agreement: tuple[float, ...] | None = None


def attribute(claims: Claims, mode: Mode, *, limit: int, lead: int = 4) -> Attribution:
    """What the units rest on, found in one of three ways.

    Args:
        limit: so many pieces of evidence are shown for a unit, and judged. lead: see :func:`weigh`.

    Raises:
        ValueError: for ``cheap`` without slopes.
    """
    counted = _Counted(claims.value)
    if mode is Mode.CHEAP:
        worth = glance(claims)
        return Attribution(mode, worth, tuple(not_judged(r) for r in claims.reliance), 3 * GLANCES)
    worth = weigh(claims.parent, counted, lead=lead)
    agreement = None
    if mode is Mode.FULL:
        worth, agreement = _refined(claims, counted, worth)
    support = judge(claims.parent, claims.place, counted, _claims(worth, claims.reliance, limit))
    return Attribution(mode, worth, support, counted.passes, agreement)


def glance(claims: Claims) -> Worth:
    """The cheap ranking of every region, patch and cell."""
    if claims.slopes is None:
        raise ValueError("this kind of model has no slopes")
    halves = fixed_size_masks(claims.parent, GLANCES, np.random.default_rng(3))
    return glance_map(claims.parent, halves, *claims.slopes(halves))


def _refined(claims: Claims, value: Value, marginal: Worth) -> tuple[Worth, tuple[float, ...]]:
    """The mean of marginal worth and a sparse fit, of equal weight in all, and how it predicts other halves."""
    rng = np.random.default_rng(0)
    halves = fixed_size_masks(claims.parent, HALVES + HELD_OUT, rng)
    values = value(halves)
    parts = np.flatnonzero(depths(claims.parent) > SLIDE)
    known = spread(marginal, len(claims.parent))
    found, agreement = [], []
    for u in range(values.shape[1]):
        fit = np.zeros(len(claims.parent))
        fit[parts] = sparse_fit(halves[:HALVES][:, parts], values[:HALVES, u], known[parts, u].clip(0))
        size = float(np.abs(known[:, u]).sum())
        both = (known[:, u] + (_share(fit) * size if size > 0 else fit)) / 2
        found.append(both)
        agreement.append(rank_correlation(values[HALVES:, u], halves[HALVES:] @ both))
    return Worth(parts, np.stack(found, 1)[parts]), tuple(agreement)


def spread(worth: Worth, nodes: int) -> Float64:
    """Worth (N, U) of all nodes; zero where none was measured."""
    out = np.zeros((nodes, worth.worth.shape[1]))
    out[worth.nodes] = worth.worth
    return out


def rank_correlation(a: Float64, b: Float64) -> float:
    """Spearman's; 0 where one of the two does not vary."""
    return float(spearmanr(a, b).statistic) if np.ptp(a) > 0 and np.ptp(b) > 0 else 0.0


def _share(x: Float64) -> Float64:
    total = float(np.abs(x).sum())
    return x / total if total > 0 else x


def _claims(worth: Worth, reliance: tuple[float, ...], limit: int) -> list[Claim]:
    return [Claim(np.array([n for n, _ in worth.best(u, limit)], np.int64), v) for u, v in enumerate(reliance)]


class _Counted:
    """A value that knows how often it was asked."""

    def __init__(self, value: Value) -> None:
        self._value, self.passes = value, 0

    def __call__(self, keep: Bool) -> Float64:
        self.passes += len(keep)
        return self._value(keep)
