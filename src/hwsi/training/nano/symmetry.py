"""A slide turned or mirrored as a whole, without its pixels: tissue has no up, so one slide is eight.

- Places move, and with them the reading order, so the labels of regions and patches; features only change their order.
- ``regions.grid`` keeps the place that a region has in the truth: what is cited there is found under its new label.
- A code is three bits: 1 mirrors x, 2 mirrors y, 4 then transposes; ``context.turn`` reads it the same way.
"""

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hwsi.features import SlideFeatures
from hwsi.hierarchy.tree import Cells
from hwsi.phantom.truth import QUADRANTS

Int = NDArray[np.int64]


def turn_features(f: SlideFeatures, code: int) -> tuple[SlideFeatures, Int]:
    """The features of the turned slide, without outlines of cells, and which old region stands where (R,)."""
    tree = f.hierarchy
    regions, patches, cells = tree.regions, tree.patches, tree.cells
    side = tree.region_px // tree.patch_px
    size0 = np.array([tree.width0, tree.height0])

    def moved(xy: NDArray[Any], item: int) -> NDArray[Any]:
        return _flip(xy, size0 - item, code)

    # reading order is by row, then column: what _flip does to (x, y) it does to (column, row)
    at = _flip(regions.grid[:, ::-1], regions.grid.max(0, initial=0)[::-1], code)
    old_region = np.lexsort((at[:, 0], at[:, 1])).astype(np.int64)
    place = _flip(patches.row_col[:, ::-1], np.array([side - 1, side - 1]), code)
    region = np.argsort(old_region)[patches.region]
    old_patch = np.lexsort((place[:, 0], place[:, 1], region))
    patch = np.argsort(old_patch)[cells.patch]
    old_cell = np.argsort(patch, kind="stable")
    turned = replace(
        tree,
        width0=tree.height0 if code & 4 else tree.width0,
        height0=tree.width0 if code & 4 else tree.height0,
        regions=replace(
            regions,
            xy=moved(regions.xy, regions.size0)[old_region],
            **{n: getattr(regions, n)[old_region] for n in ("grid", "tissue", "focus", "pen", "padded")},
        ),
        patches=replace(
            patches,
            xy=moved(patches.xy, patches.size0)[old_patch],
            region=region[old_patch],
            row_col=place[old_patch, ::-1],
            **{n: getattr(patches, n)[old_patch] for n in ("tissue", "background")},
        ),
        cells=Cells(
            xy=moved(cells.xy, 0)[old_cell].astype(np.float32),
            patch=patch[old_cell],
            contour_ptr=np.zeros(len(old_cell) + 1, np.int64),
            contour_xy=np.zeros((0, 2), np.float32),
            type=cells.type[old_cell],
            type_prob=cells.type_prob[old_cell],
        ),
    )
    found = replace(
        f,
        hierarchy=turned,
        region={e: v[old_region] for e, v in f.region.items()},
        patch={e: v[old_patch] for e, v in f.patch.items()},
        cell={e: v[old_cell] for e, v in f.cell.items()},
    )
    return found, old_region


def turn_quarter(name: str, code: int) -> str:
    """The name of a quarter of the slide after the turn."""
    row, col = divmod(QUADRANTS.index(name), 2)
    x, y = _flip(np.array([[col, row]]), np.array([1, 1]), code)[0]
    return QUADRANTS[2 * int(y) + int(x)]


def _flip(xy: NDArray[Any], last: NDArray[Any], code: int) -> NDArray[Any]:
    """Points (n, 2) as (x, y) mirrored in [0, ``last``] and transposed."""
    mirror = np.array([code & 1, code >> 1 & 1], np.bool_)
    out: NDArray[Any] = np.where(mirror, last - xy, xy)
    return out[:, ::-1] if code & 4 else out
