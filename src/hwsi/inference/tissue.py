"""From a node of the prompt to tissue that can be pointed at: label, box, outlines of cells."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from hwsi.hierarchy.labels import patch_label, region_label
from hwsi.hierarchy.tree import Hierarchy
from hwsi.inference.answer import Evidence, LeftOutAt
from hwsi.model.prompt import Node

MAX_CELLS = 12

BLURRED = 0.4
"""A region whose sharpness is below this has a blur of more than about 2 µm (``slide/quality.py``)."""
PEN = 0.02
"""A region with more of it under pen than this is told."""

Contour = tuple[tuple[float, float], ...]


class EvidenceMaker:
    """Makes evidence of nodes.

    Attributes:
        labels: everything that can be cited on this slide: all regions, and all patches that hold tissue.
    """

    def __init__(self, tree: Hierarchy, nodes: Sequence[Node], left_out_at: LeftOutAt = "lm_token") -> None:
        self._tree, self._nodes, self._left_out_at = tree, nodes, left_out_at
        cols = tree.region_px // tree.patch_px
        patches = tree.patches
        labels = {region_label(r) for r in range(len(tree.regions))}
        for n in np.flatnonzero(~patches.background):
            row, col = patches.row_col[n].tolist()
            labels.add(patch_label(int(patches.region[n]), row, col, cols))
        self.labels = frozenset(labels)
        self._offsets = tree.cells.of_patch(len(patches))

    def make(self, node: int, score: float, supports: str, cells: NDArray[np.int64] | None = None) -> Evidence:
        """Evidence of a region, patch or cell node; ``cells``: rows of those meant, where single cells were weighed."""
        n = self._nodes[node]
        items = self._tree.regions if n.scale == "region" else self._tree.patches
        return Evidence(
            scale=n.scale,  # type: ignore[arg-type]  # a node's scales are these and "text", which has no worth
            label=n.label,
            box=self._box(items.xy[n.index], items.size0),
            score=score,
            supports=supports,
            contours=self._contours(n.index, cells) if n.scale == "cell" else (),
            left_out_at=self._left_out_at,
        )

    def places(self) -> NDArray[np.float64]:
        """Centres (N, 2) of all nodes in level-0 pixels; zero for what has no place (text, the slide)."""
        out = np.zeros((len(self._nodes), 2))
        for i, n in enumerate(self._nodes):
            if n.scale in ("region", "patch", "cell"):
                items = self._tree.regions if n.scale == "region" else self._tree.patches
                out[i] = items.xy[n.index] + items.size0 / 2
        return out

    def _box(self, xy: NDArray[np.int64], size0: int) -> tuple[int, int, int, int]:
        """Clipped to the slide."""
        x, y = int(xy[0]), int(xy[1])
        w, h = self._tree.width0, self._tree.height0
        return max(x, 0), max(y, 0), min(x + size0, w), min(y + size0, h)

    def _contours(self, patch: int, meant: NDArray[np.int64] | None) -> tuple[Contour, ...]:
        """Outlines of the cells meant, or else of those whose type is surest; in stored order, inside the slide."""
        cells = self._tree.cells
        rows = np.arange(self._offsets[patch], self._offsets[patch + 1])
        surest = rows[np.argsort(-cells.type_prob[rows], kind="stable")[:MAX_CELLS]] if meant is None else meant
        limit = np.array([self._tree.width0, self._tree.height0], np.float32)
        out = []
        for m in np.sort(surest):
            points = np.clip(cells.contour(int(m)), 0, limit)
            out.append(tuple((float(x), float(y)) for x, y in points))
        return tuple(out)


def quality_warnings(tree: Hierarchy) -> tuple[str, ...]:
    """What a reader must know about the regions: which are out of focus, which have pen on them."""
    regions = tree.regions
    told = {
        "out of focus": regions.focus < BLURRED,
        "partly covered by pen": regions.pen > PEN,
    }
    return tuple(_told(what, np.flatnonzero(which)) for what, which in told.items() if which.any())


def _told(what: str, which: NDArray[np.int64]) -> str:
    names = ", ".join(region_label(int(r)) for r in which[:6])
    more = f" and {len(which) - 6} more" if len(which) > 6 else ""
    return f"{names}{more} {'is' if len(which) == 1 else 'are'} {what}."
