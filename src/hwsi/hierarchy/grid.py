"""Lays regions and patches over a slide.

- One grid, anchored at the slide's origin. Corner k is ``round(k * exact side)``: rounding never adds up, and
  neighbours overlap or part by at most one level-0 pixel.
- A patch with less tissue than ``min_tissue`` is background; a region is kept when at least one of its
  patches is not. So the least that keeps a region is ``min_tissue`` of a single patch (0.16 % of a 2048-px
  region of 256-px patches). The slide's best patch counts as tissue however little it holds, so that a
  slide with any tissue has a region.
- Border regions are kept and marked as padded; their patches beyond the border are background.
"""

from collections.abc import Callable
from typing import Literal, Protocol

import numpy as np

from hwsi.hierarchy.tree import Cells, Float, Hierarchy, Int, Patches, Regions


class TissueLike(Protocol):
    """What the grid needs to know of a slide's tissue."""

    def fraction(self, xy: Int, size0: float, which: Literal["mask", "pen"] = "mask") -> Float:
        """Fraction (n,) in [0, 1] of boxes with corner ``xy`` (n, 2) and side ``size0``, level-0 pixels."""
        ...


def corners(count: int, side: float) -> Int:
    """Corners (count,) int64 of a row of boxes with the exact side ``side``, each rounded on its own."""
    return np.asarray(np.rint(np.arange(count) * side), np.int64)


def build_grid(
    slide_size0: tuple[int, int],
    mpp: float,
    tissue: TissueLike,
    *,
    region_px: int,
    patch_px: int,
    read_mpp: float,
    min_tissue: float = 0.1,
    focus: Callable[[Int, int], Float] | None = None,
) -> Hierarchy:
    """The tree of a slide down to its patches; cells come when they have been found.

    Args:
        slide_size0: width and height in level-0 pixels.
        mpp: level-0 micrometres per pixel.
        tissue: gives the fraction of tissue and of pen in boxes.
        region_px, patch_px: sides in pixels at ``read_mpp``; a region's is a multiple of a patch's.
        read_mpp: micrometres per pixel at which they are read.
        min_tissue: a patch with less tissue than this fraction is background.
        focus: sharpness (n,) in [0, 1] of boxes with corner (n, 2) and side; asked for kept regions only.
            Without it every region counts as sharp.

    Returns:
        Regions in reading order and the full grid of patches of each. No regions where there is no tissue.

    Raises:
        ValueError: sizes that are not positive, or a region that patches don't fill.
    """
    width0, height0 = slide_size0
    if min(width0, height0, region_px, patch_px) <= 0 or mpp <= 0 or read_mpp <= 0:
        raise ValueError("the sizes and resolutions of a grid are positive")
    if region_px % patch_px:
        raise ValueError(f"a region of {region_px} px is not filled by patches of {patch_px} px")
    per_side = region_px // patch_px
    region_side, patch_side = region_px * read_mpp / mpp, patch_px * read_mpp / mpp
    region_size0, patch_size0 = max(1, round(region_side)), max(1, round(patch_side))

    columns, rows = _count(width0, region_side), _count(height0, region_side)
    grid = np.stack(np.divmod(np.arange(rows * columns), columns), axis=1).astype(np.int64)

    # The patch grid of the whole slide: patch (i, j) of it is patch (i mod per_side, ...) of its region.
    patch_x, patch_y = corners(columns * per_side, patch_side), corners(rows * per_side, patch_side)
    inside = np.stack(np.divmod(np.arange(per_side**2), per_side), axis=1).astype(np.int64)
    absolute = (grid[:, None] * per_side + inside).reshape(-1, 2)
    patch_xy = np.stack([patch_x[absolute[:, 1]], patch_y[absolute[:, 0]]], axis=1)
    fraction = np.asarray(tissue.fraction(patch_xy, patch_size0), np.float32)
    # a corner may be rounded onto the border; such a patch holds no pixel of the slide
    fraction = np.where((patch_xy < (width0, height0)).all(axis=1), fraction, np.float32(0))

    background = fraction < min_tissue
    if fraction.any():
        background[fraction.argmax()] = False
    background |= fraction == 0
    kept = ~background.reshape(-1, per_side**2).all(axis=1)

    grid = grid[kept]
    xy = np.stack([corners(columns, region_side)[grid[:, 1]], corners(rows, region_side)[grid[:, 0]]], axis=1)
    regions = Regions(
        xy=xy,
        size0=region_size0,
        grid=grid,
        tissue=np.asarray(tissue.fraction(xy, region_size0), np.float32),
        focus=np.ones(len(xy), np.float32) if focus is None else np.asarray(focus(xy, region_size0), np.float32),
        pen=np.asarray(tissue.fraction(xy, region_size0, "pen"), np.float32),
        padded=np.any(xy + region_size0 > (width0, height0), axis=1),
    )
    of_kept = np.repeat(kept, per_side**2)
    patches = Patches(
        xy=patch_xy[of_kept],
        size0=patch_size0,
        region=np.repeat(np.arange(len(xy)), per_side**2).astype(np.int64),
        row_col=np.tile(inside, (len(xy), 1)),
        tissue=fraction[of_kept],
        background=background[of_kept],
    )
    return Hierarchy(width0, height0, mpp, region_px, patch_px, read_mpp, regions, patches, Cells.none())


def _count(length0: int, side: float) -> int:
    """How many boxes of ``side`` cover ``length0``; one that would start on the border is none."""
    count = max(1, int(np.ceil(length0 / side)))
    while count > 1 and round((count - 1) * side) >= length0:
        count -= 1
    return count
