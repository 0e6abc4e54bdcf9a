"""Random parts of a slide, to compare evidence with chance.

- A set that is compared with evidence has its size, its scales, its nesting and its spread on the glass: single
  scattered patches are too easy to beat for a cluster of neighbours.

Notation: N nodes of the prefix, k nodes of a set.
"""

import numpy as np
from numpy.typing import NDArray

from hwsi.inference.evidence.worth import CELL, PATCH, REGION, SLIDE, Bool, Float64, Int, depths

_TRIES = 8
"""So many sets are drawn for one that is kept: the one whose spread is nearest to the evidence's."""


def fixed_size_masks(parent: Int, n: int, rng: np.random.Generator, share: float = 0.5) -> Bool:
    """Keep masks (n, N): the slide, this share of the regions, of their patches, and of these patches' cells.

    Args:
        parent: (N,) int64. n: how many. share: in (0, 1]; at least one region and one patch of it stay.
    """
    depth = depths(parent)
    out = np.zeros((n, len(parent)), bool)
    for keep in out:
        keep[depth <= SLIDE] = True
        for scale in (REGION, PATCH, CELL):
            under = np.flatnonzero((depth == scale) & keep[parent])
            keep[rng.permutation(under)[: max(1, round(share * len(under)))]] = True
    return out


def matched_sets(parent: Int, chosen: Int, place: Float64, n: int, rng: np.random.Generator) -> list[NDArray[np.int64]]:
    """Random sets of nodes that are like ``chosen`` and share none of it, all different.

    There are fewer than ``n`` where the slide is too small for so many.

    A group is what of ``chosen`` lies under one node that it does not hold itself; a group is drawn anew as a whole:
    as many nodes of the same scale under one other parent, and what hung on a drawn node hangs on its substitute.

    Args:
        parent: (N,) int64. chosen: (k,) nodes. place: (N, 2) centres in level-0 pixels; those of text and slide
            are not looked at.
        n: how many sets. rng: decides.
    """
    wanted = _spread(chosen, parent, place)
    seen = {tuple(sorted(chosen.tolist()))}
    found: list[NDArray[np.int64]] = []
    for _ in range(4 * n):
        drawn = [s for _ in range(_TRIES) if (s := _draw(parent, chosen, place, rng)) is not None]
        fresh = [s for s in drawn if tuple(s.tolist()) not in seen]
        if fresh:
            best = min(fresh, key=lambda s: abs(_spread(s, parent, place) - wanted))
            seen.add(tuple(best.tolist()))
            found.append(best)
        if len(found) == n:
            break
    return found


def _draw(parent: Int, chosen: Int, place: Float64, rng: np.random.Generator) -> NDArray[np.int64] | None:
    """One set like ``chosen`` without any of its nodes, ascending; None where the tree has no room for it."""
    taken = np.zeros(len(parent), bool)
    taken[chosen] = True
    substitute: dict[int, int] = {}
    for top in _groups(parent, chosen):
        group = [int(c) for c in chosen if int(parent[c]) == top]
        held = top in substitute
        parents = [substitute[top]] if held else _parents_with_room(parent, top, len(group), taken)
        if not len(parents):
            return None
        under = np.flatnonzero((parent == rng.choice(parents)) & ~taken)
        under = under[under > SLIDE]
        if len(under) < len(group):
            return None
        picked = _pick(under, len(group), place, rng)
        taken[picked] = True
        substitute.update(zip(group, (int(p) for p in picked), strict=True))
    return np.array(sorted(substitute.values()), np.int64)


def _groups(parent: Int, chosen: Int) -> list[int]:
    """Parents of the chosen nodes, those nearer to the root first."""
    depth = depths(parent)
    return sorted({int(parent[c]) for c in chosen}, key=lambda p: (int(depth[p]), p))


def _parents_with_room(parent: Int, like: int, k: int, taken: Bool) -> NDArray[np.int64]:
    """Nodes of the scale of ``like`` with at least ``k`` children that are free."""
    depth = depths(parent)
    free = np.bincount(parent[~taken], minlength=len(parent))
    return np.flatnonzero((depth == depth[like]) & (free >= k))


def _pick(under: NDArray[np.int64], k: int, place: Float64, rng: np.random.Generator) -> NDArray[np.int64]:
    """``k`` of the nodes ``under``: scattered, or around one of them, as luck has it."""
    if rng.random() < 0.5:
        return rng.permutation(under)[:k]
    around = place[rng.choice(under)]
    return under[np.argsort(np.hypot(*(place[under] - around).T), kind="stable")[:k]]


def _spread(nodes: Int, parent: Int, place: Float64) -> float:
    """Mean distance of nodes to the centre of those under the same parent, in level-0 pixels."""
    nodes = np.asarray(nodes)
    of = parent[nodes]
    return float(np.mean([np.hypot(*(place[n] - place[nodes[of == parent[n]]].mean(0))) for n in nodes]))
