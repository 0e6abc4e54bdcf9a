"""The pixels of a region, read once for all encoders.

- Read is the box of its patches that hold tissue, with a rim for the cells on its border; nothing else.
- It is read at the finest resolution that an encoder asks for, but never finer than the slide has it; coarser
  and finer images come from the same pixels.
- Positions are exact: patch (i, j) of the slide's patch grid begins at ``i * patch side`` level-0 pixels, a
  fraction; only the corner from which the image is read is rounded, and what is found in it counts from there.

Notation: level-0 coordinates are continuous, pixel k covers k to k+1. In an image, the centre of the first
pixel is 0, as the cell encoder counts.
"""

from dataclasses import dataclass
from typing import Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from hwsi.hierarchy.tree import Hierarchy, Int

Image = NDArray[np.uint8]

_ROUNDED = 0.5 + 1e-6


class Readable(Protocol):
    """A slide, as far as its pixels go."""

    @property
    def mpp_xy(self) -> tuple[float, float]:
        """Micrometres per level-0 pixel along x and y."""
        ...

    def read(self, x0: int, y0: int, size_px: tuple[int, int], mpp: float) -> Image:
        """``size_px`` (width, height) pixels of ``mpp`` from the level-0 corner, RGB over white."""
        ...


@dataclass(frozen=True)
class RegionPlan:
    """What to read of a region.

    Attributes:
        region: its index.
        patches: (n,) indices of its patches that hold tissue, ascending.
        row_col: (n, 2) their places inside the box that is read.
        row0, col0: place of that box in the grid of patches.
        rows, cols: its size in patches.
        origin0: level-0 corner of that grid: the slide's, or of a region that lies off the slide's grid its own.
    """

    region: int
    patches: Int
    row_col: Int
    row0: int
    col0: int
    rows: int
    cols: int
    origin0: tuple[float, float] = (0.0, 0.0)


def plan_regions(tree: Hierarchy) -> list[RegionPlan]:
    """One plan for each region; a region of the tree has at least one patch with tissue."""
    per_side = tree.region_px // tree.patch_px
    offsets = tree.patches.of_region(len(tree.regions))
    grid, xy = tree.regions.grid, tree.regions.xy
    # what rounds to the region's corner is its corner exactly
    exact = grid[:, ::-1] * (tree.region_px * tree.read_mpp / tree.mpp)
    on_grid = (np.abs(exact - xy) <= _ROUNDED).all(axis=1)
    plans = []
    for r in range(len(tree.regions)):
        inside = np.arange(offsets[r], offsets[r + 1])
        wanted = inside[~tree.patches.background[inside]]
        row_col = tree.patches.row_col[wanted]
        first, last = row_col.min(axis=0), row_col.max(axis=0)
        row0, col0 = ((grid[r] * per_side if on_grid[r] else 0) + first).tolist()
        rows, cols = (last - first + 1).tolist()
        x0, y0 = (0.0, 0.0) if on_grid[r] else xy[r].astype(float).tolist()
        plans.append(RegionPlan(r, wanted, row_col - first, row0, col0, rows, cols, (x0, y0)))
    return plans


@dataclass(frozen=True)
class RegionPixels:
    """The pixels of a region's box with a rim around it.

    Attributes:
        image: uint8 (H, W, 3), as read.
        x0, y0: its corner in level-0 pixels.
        footprint0: its size (width, height) in level-0 pixels, a fraction.
        own: uint8 (n, patch_px, patch_px, 3), patches that were read at their own corners; None: they lie on the grid.
        width, height: its size in pixels at ``read_mpp``.
        halo_px: the rim in these pixels.
    """

    plan: RegionPlan
    image: Image
    x0: int
    y0: int
    footprint0: tuple[float, float]
    width: int
    height: int
    halo_px: int
    tree: Hierarchy
    own: Image | None = None

    def patches(self) -> Image:
        """uint8 (n, patch_px, patch_px, 3) at ``read_mpp``, of the patches that hold tissue."""
        if self.own is not None:
            return self.own
        image = _resized(self.image, self.width, self.height)
        px = self.tree.patch_px
        corners = self.halo_px + self.plan.row_col * px
        return np.stack([image[y : y + px, x : x + px] for y, x in corners.tolist()])

    def for_cells(self, mpp: float) -> tuple[Image, tuple[float, float, float, float]]:
        """The image (H, W, 3) at ``mpp``, and the core (x0, y0, x1, y1) in it whose cells are this region's.

        The cores of neighbours meet exactly: they are cut at the same level-0 coordinates.
        """
        scale = self.tree.read_mpp / mpp
        image = _resized(self.image, round(self.width * scale), round(self.height * scale))
        side, plan = self.patch_side, self.plan
        left_top = np.array([plan.col0, plan.row0]) * side + plan.origin0
        right_bottom = np.array([plan.col0 + plan.cols, plan.row0 + plan.rows]) * side + plan.origin0
        x0, y0 = self._to_image(left_top, image).tolist()
        x1, y1 = self._to_image(right_bottom, image).tolist()
        return image, (x0, y0, x1, y1)

    @property
    def patch_side(self) -> float:
        """Exact side of a patch in level-0 pixels."""
        return self.tree.patch_px * self.tree.read_mpp / self.tree.mpp

    def to_level0(self, xy: NDArray[np.floating], image: Image) -> NDArray[np.float64]:
        """Level-0 coordinates (n, 2) of points in an image that :meth:`for_cells` gave."""
        corner = np.array([self.x0, self.y0], np.float64)
        return (np.asarray(xy, np.float64) + 0.5) * self._scale0(image) + corner

    def _to_image(self, xy0: NDArray[np.float64], image: Image) -> NDArray[np.float64]:
        corner = np.array([self.x0, self.y0], np.float64)
        return np.asarray((xy0 - corner) / self._scale0(image) - 0.5)

    def _scale0(self, image: Image) -> NDArray[np.float64]:
        """Level-0 pixels for each pixel of ``image``, along x and y."""
        return np.array(self.footprint0) / (image.shape[1], image.shape[0])


def read_region(slide: Readable, tree: Hierarchy, plan: RegionPlan, *, halo_um: float, cell_mpp: float) -> RegionPixels:
    """Read what a plan asks for, with a rim of ``halo_um``, fine enough for cells at ``cell_mpp``."""
    halo_px = int(np.ceil(halo_um / tree.read_mpp))
    scale0 = tree.read_mpp / tree.mpp
    side = tree.patch_px * scale0
    x0 = round(plan.col0 * side - halo_px * scale0 + plan.origin0[0])
    y0 = round(plan.row0 * side - halo_px * scale0 + plan.origin0[1])
    width, height = (n * tree.patch_px + 2 * halo_px for n in (plan.cols, plan.rows))
    mpp = min(tree.read_mpp, max(cell_mpp, tree.mpp))
    # The tree takes level-0 pixels for squares of the mean side. Where they are not quite, more or fewer are asked
    # for along one axis, so that what is read is what the tree's boxes cover.
    asked = [
        round(length * tree.read_mpp / mpp * side_um / tree.mpp)
        for length, side_um in zip((width, height), slide.mpp_xy, strict=True)
    ]
    image = slide.read(x0, y0, (asked[0], asked[1]), mpp)
    footprint0 = (asked[0] * mpp / slide.mpp_xy[0], asked[1] * mpp / slide.mpp_xy[1])
    own = None if _on_grid(tree, plan) else _at_own_corners(slide, tree, plan)
    return RegionPixels(plan, image, x0, y0, footprint0, width, height, halo_px, tree, own)


def _on_grid(tree: Hierarchy, plan: RegionPlan) -> bool:
    """Whether the patches of a region lie where its grid has them; another tool's need not."""
    side = tree.patch_px * tree.read_mpp / tree.mpp
    corner = (plan.row_col + np.array([plan.row0, plan.col0]))[:, ::-1] * side + plan.origin0
    return bool((np.abs(corner - tree.patches.xy[plan.patches]) <= 1 + _ROUNDED).all())


def _at_own_corners(slide: Readable, tree: Hierarchy, plan: RegionPlan) -> Image:
    px = tree.patch_px
    wide, high = (round(px * side_um / tree.mpp) for side_um in slide.mpp_xy)  # as `asked` of a region
    read = (slide.read(x, y, (wide, high), tree.read_mpp) for x, y in tree.patches.xy[plan.patches].tolist())
    return np.stack([_resized(image, px, px) for image in read])


def _resized(image: Image, width: int, height: int) -> Image:
    if image.shape[:2] == (height, width):
        return image
    shrinks = width < image.shape[1]
    resized = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC)
    return np.asarray(resized, np.uint8)
