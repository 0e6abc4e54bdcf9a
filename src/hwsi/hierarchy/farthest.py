"""Semantic patch filtering by farthest points: the filter that the released model's features were made with.

- First a spread: patches are taken one after the other, each the least like those already taken. Then the most
  similar to a text stay.
- Without a text the first of the spread stay: it is ordered by how much each adds.
- :func:`filter_as_released` repeats the release's inference, for comparison: there the "text" of the whole slide is
  the vector of its first region's greatest outlier, so a region's choice depends on which region comes first.
- ``selection.py`` is what our own models use.

Notation: R regions, n patches of a region, d features. Source: Algorithm "semantic patch filtering" of MLLM-HWSI;
farthest-point sampling after Gonzalez (1985), doi:10.1016/0304-3975(85)90224-5.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hwsi.hierarchy.tree import Int

SPREAD, KEEP = 32, 16
"""How many patches of a region are spread out, and how many of them stay, in the release."""


def farthest_points(features: ArrayLike, count: int) -> tuple[Int, NDArray[np.float32]]:
    """Patches that are least like each other, by cosine.

    Args:
        features: (n, d) of one region.
        count: how many; all are taken when there are no more.

    Returns:
        indices: (min(count, n),) int64, in order: first the patch with the lowest mean similarity to all (itself
            included), then always the one whose greatest similarity to those taken is least. Ties go to the lower
            index.
        scores: (min(count, n),) float32, that mean and these greatest similarities.

    Raises:
        ValueError: features that are not (n, d) with n > 0, or a negative count.
    """
    unit = _unit(features)
    if count < 1:
        raise ValueError(f"cannot take {count} patches")
    mean = unit @ unit.mean(axis=0)
    chosen, scores = [int(mean.argmin())], [float(mean.min())]
    nearest = unit @ unit[chosen[0]]  # to the nearest of those taken
    while len(chosen) < min(count, len(unit)):
        open_ = nearest.copy()
        open_[chosen] = np.inf
        chosen.append(int(open_.argmin()))
        scores.append(float(open_[chosen[-1]]))
        nearest = np.maximum(nearest, unit @ unit[chosen[-1]])
    return np.array(chosen, np.int64), np.array(scores, np.float32)


def most_similar(features: ArrayLike, text: ArrayLike, count: int) -> tuple[Int, NDArray[np.float32]]:
    """The ``count`` rows of ``features`` (n, d) nearest to ``text`` (d,) by cosine.

    Returns:
        indices (min(count, n),) int64 and their cosines float32, the most similar first.
    """
    similarity = _unit(features) @ _unit(np.asarray(text).reshape(1, -1))[0]
    order = np.argsort(-similarity, kind="stable")[:count]
    return order.astype(np.int64), similarity[order].astype(np.float32)


def filter_patches(
    features: ArrayLike, text: ArrayLike | None = None, *, spread: int = SPREAD, keep: int = KEEP
) -> Int:
    """The patches of one region that stay.

    Args:
        features: (n, d) of the region's patches.
        text: (d,) of a question, in the same space; without it the first of the spread stay.
        spread: how many are spread out. keep: how many of them stay.

    Returns:
        (min(keep, spread, n),) int64: by descending similarity to the text, or in order of the spread.
    """
    points, _ = farthest_points(features, spread)
    if text is None:
        return points[:keep]
    return points[most_similar(np.asarray(features)[points], text, keep)[0]]


def filter_as_released(features: ArrayLike, *, spread: int = SPREAD, keep: int = KEEP) -> Int:
    """The release's choice at inference for a slide's regions (R, n, d): (R, min(keep, spread, n)) int64.

    Regions depend on the first one; give one region at a time to see what each would choose alone.
    """
    regions = np.asarray(features)
    text = regions[0][farthest_points(regions[0], 1)[0][0]]
    return np.stack([filter_patches(region, text, spread=spread, keep=keep) for region in regions])


def _unit(features: ArrayLike) -> NDArray[np.float64]:
    """Rows (n, d) scaled to length one; a zero row stays zero."""
    rows = np.asarray(features, np.float64)
    if rows.ndim != 2 or not len(rows) or not np.isfinite(rows).all():
        raise ValueError(f"features are finite and of shape (n, d) with n > 0, got {rows.shape}")
    norm = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.asarray(np.divide(rows, norm, out=np.zeros_like(rows), where=norm > 0))
