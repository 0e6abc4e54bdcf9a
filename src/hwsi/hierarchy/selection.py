"""Which regions and patches deserve a token.

- Patches: semantic filtering. A patch whose mean cosine to the others lies above mean + std says what many
  say and is dropped; of the rest the most relevant stay, or, with no question yet, a set that covers them.
- Regions: facility location. The chosen set covers all regions in feature space and scores high; the greedy
  choice is within 1 - 1/e of the best. Lazy evaluation gives the same set for a fraction of the work.
- Everything is decided by features and scores; ties go to the lower index, so the same input gives the same
  choice. A report is never looked at: at inference there is none.

Notation: n items, d features.
"""

import heapq

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hwsi.hierarchy.tree import Int

_DIGITS = 12
"""Gains are compared to this many decimals: less is rounding, and rounding must not break ties."""


def select_patches(
    features: ArrayLike, k: int, relevance: ArrayLike | None = None, *, saliency: ArrayLike | None = None
) -> Int:
    """At most ``k`` patches of one region that are not redundant, and relevant or else diverse.

    Args:
        features: (n, d) features of the patches.
        k: how many to keep; all are kept when there are no more.
        relevance: (n,) of each patch to the question; higher is more.
        saliency: (n,) worth of each patch without a question, weighed against diversity; unused with one.

    Returns:
        (min(k, n),) int64 indices, ascending. Where fewer than ``k`` are left, redundant ones stay too.
    """
    unit = _unit(features)
    n = len(unit)
    if k < 0:
        raise ValueError(f"cannot keep {k} patches")
    if n <= k:
        return np.arange(n, dtype=np.int64)
    if k == 0:
        return np.zeros(0, np.int64)
    redundant = _redundant(unit)
    if (~redundant).sum() < k:
        redundant[:] = False
    rest = np.flatnonzero(~redundant)
    if relevance is not None:
        wanted = _scores(relevance, n)[rest]
        chosen = np.argsort(-wanted, kind="stable")[:k]
    else:
        scores = np.zeros(n) if saliency is None else _scores(saliency, n)
        chosen = _facility_location(scores[rest], unit[rest], k)
    return np.sort(rest[chosen]).astype(np.int64)


def described(background: ArrayLike, features: ArrayLike) -> NDArray[np.bool_]:
    """(n,) whether a patch's encoder has seen it: it holds tissue, and was not spared for being like others.

    Args:
        background: (n,) bool.
        features: (n, d); a patch that was spared (``Preset.patch_spread``) has a row of zeros.
    """
    tissue = ~np.asarray(background, np.bool_)
    there = tissue & np.asarray(features).any(axis=1)
    return there if there.any() else tissue


def select_regions(scores: ArrayLike, features: ArrayLike, budget: int) -> Int:
    """The regions that a budget allows: high in score, and together covering what the slide shows.

    Greedy maximum of ``mean_i max_{j in S} (1 + cos_ij) / 2  +  mean_{j in S} score_j`` with scores scaled to
    [0, 1] (the second mean over the budget), a monotone submodular function.

    Args:
        scores: (n,) of each region; higher is better.
        features: (n, d) of each region.
        budget: how many to keep; all are kept when there are no more.

    Returns:
        (min(budget, n),) int64 indices, ascending.
    """
    unit = _unit(features)
    if budget < 0:
        raise ValueError(f"cannot keep {budget} regions")
    return np.sort(_facility_location(_scores(scores, len(unit)), unit, budget)).astype(np.int64)


def _facility_location(scores: NDArray[np.float64], unit: NDArray[np.float64], budget: int) -> Int:
    """Lazy greedy: an old gain bounds the new one from above, so most are never computed again."""
    n = len(unit)
    budget = min(budget, n)
    if budget == 0:
        return np.zeros(0, np.int64)
    similarity = (1 + unit @ unit.T) / 2
    spread = np.ptp(scores)
    scaled = (scores - scores.min()) / spread if spread > 0 else np.zeros(n)
    covered = np.zeros(n)

    def gain(j: int) -> float:
        cover = np.maximum(similarity[j] - covered, 0).mean()
        return round(float(cover + scaled[j] / budget), _DIGITS)

    queue = [(-gain(j), j) for j in range(n)]
    heapq.heapify(queue)
    chosen: list[int] = []
    while len(chosen) < budget:
        _, j = heapq.heappop(queue)
        fresh = (-gain(j), j)
        if queue and queue[0] < fresh:
            heapq.heappush(queue, fresh)
            continue
        chosen.append(j)
        covered = np.maximum(covered, similarity[j])
    return np.array(chosen, np.int64)


def _redundant(unit: NDArray[np.float64]) -> NDArray[np.bool_]:
    """(n,) whether the mean cosine to the others lies above the mean of these means plus their deviation."""
    n = len(unit)
    # sum over the others of cos(i, j), without the (n, n) matrix
    mean_cosine = np.round((unit @ unit.sum(axis=0) - (unit**2).sum(axis=1)) / (n - 1), _DIGITS)
    return np.asarray(mean_cosine > mean_cosine.mean() + mean_cosine.std())


def _unit(features: ArrayLike) -> NDArray[np.float64]:
    """Rows (n, d) scaled to length one; a zero row stays zero."""
    rows = np.asarray(features, np.float64)
    if rows.ndim != 2 or not np.isfinite(rows).all():
        raise ValueError(f"features are finite and of shape (n, d), got {rows.shape}")
    norm = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.asarray(np.divide(rows, norm, out=np.zeros_like(rows), where=norm > 0))


def _scores(scores: ArrayLike, n: int) -> NDArray[np.float64]:
    row = np.asarray(scores, np.float64)
    if row.shape != (n,) or not np.isfinite(row).all():
        raise ValueError(f"scores are finite, one for each of {n} items, got shape {row.shape}")
    return row
