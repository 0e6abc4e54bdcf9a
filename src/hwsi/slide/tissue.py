"""Where on a slide the tissue is: a mask, its outlines, and how much of any box is covered.

- The mask is made on a thumbnail (8 µm/px): stained pixels without pen, small gaps closed, small holes filled
  (fat cells, alveoli, lumina belong to the tissue), larger holes kept, specks removed. All sizes are physical.
- Coverage comes from an integral image, exact for boxes that begin and end inside a mask pixel.
- A user's own mask takes the place of all this; pen is then only reported, never taken out.
"""

import math
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
import shapely
from numpy.typing import ArrayLike, NDArray

from hwsi.errors import HwsiError, Reason
from hwsi.slide.outline import mask_to_polygons, read_user_mask
from hwsi.slide.slide import Slide
from hwsi.slide.stain import pen_marks, stained

Bool = NDArray[np.bool_]

CLOSE_UM = 24.0
"""Gaps of up to twice this between stained pixels belong to the tissue."""
HOLE_UM2 = 40_000.0
"""Holes up to this are filled (a disc of 225 µm: an alveolus); larger ones are holes."""
SPECK_UM2 = 15_000.0
"""Pieces below this are dust (a disc of 140 µm), unless the slide itself is that small."""
PEN_UM2 = 30_000.0
"""A pen's mark is at least this large."""
_MIN_SIDE_PX = 64
"""A slide that would have fewer pixels on its longer side is looked at more closely."""
_MOST_PX = 1 << 27
"""A slide that would have more pixels (86 cm² at 8 µm/px) is looked at less closely: memory has bounds."""
_MOST_MM2 = 50_000.0
"""More than any glass has: whole organs are cut for 6 by 8 inches, 310 cm²."""


@dataclass(frozen=True)
class Tissue:
    """Tissue of one slide; made by :func:`find_tissue`.

    Attributes:
        mask: (h, w) bool, tissue.
        pen: (h, w) bool, pen.
        mpp: micrometres per mask pixel.
        scale0_xy: level-0 pixels per mask pixel in x and y.
        size0: (width, height) of the slide in level-0 pixels.
        polygons: outlines with holes, valid, in level-0 pixels; largest first.
    """

    mask: Bool
    pen: Bool
    mpp: float
    scale0_xy: tuple[float, float]
    size0: tuple[int, int]
    polygons: list[shapely.Polygon]

    @property
    def scale0(self) -> float:
        """Level-0 pixels per mask pixel, mean of x and y."""
        return math.sqrt(self.scale0_xy[0] * self.scale0_xy[1])

    @property
    def area_mm2(self) -> float:
        """Area of the tissue in mm²."""
        return float(self.mask.sum()) * self.mpp**2 / 1e6

    def fraction(self, xy: ArrayLike, size0: float, which: Literal["mask", "pen"] = "mask") -> NDArray[np.float32]:
        """How much of each box is tissue (or pen).

        Args:
            xy: (n, 2) top-left corners in level-0 pixels.
            size0: side of the boxes in level-0 pixels.
            which: 'mask' or 'pen'.

        Returns:
            (n,) float32 in [0, 1]; what lies outside the slide counts as none.
        """
        corner = np.asarray(xy, np.float64).reshape(-1, 2)
        sums = self._integral if which == "mask" else self._pen_integral
        scale = np.asarray(self.scale0_xy)
        # the last mask pixel may reach over the slide's border: what lies there is none
        low = np.clip(corner, 0, self.size0) / scale
        high = np.clip(corner + size0, 0, self.size0) / scale
        covered = (
            _interpolate(sums, high[:, 0], high[:, 1])
            - _interpolate(sums, low[:, 0], high[:, 1])
            - _interpolate(sums, high[:, 0], low[:, 1])
            + _interpolate(sums, low[:, 0], low[:, 1])
        )
        share: NDArray[np.float32] = np.clip(covered * scale.prod() / size0**2, 0, 1).astype(np.float32)
        return share

    @cached_property
    def _integral(self) -> NDArray[np.int32]:
        return np.asarray(cv2.integral(self.mask.astype(np.uint8)), np.int32)

    @cached_property
    def _pen_integral(self) -> NDArray[np.int32]:
        return np.asarray(cv2.integral(self.pen.astype(np.uint8)), np.int32)


def _interpolate(sums: NDArray[np.int32], x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
    """An integral image between its points; exact, since a mask is constant inside a pixel."""
    h, w = sums.shape[0] - 1, sums.shape[1] - 1
    x, y = np.minimum(x, w), np.minimum(y, h)
    i = np.minimum(x.astype(np.int64), w - 1)
    j = np.minimum(y.astype(np.int64), h - 1)
    u, v = x - i, y - j
    result: NDArray[np.float64] = (
        sums[j, i] * (1 - u) * (1 - v)
        + sums[j, i + 1] * u * (1 - v)
        + sums[j + 1, i] * (1 - u) * v
        + sums[j + 1, i + 1] * u * v
    )
    return result


def find_tissue(slide: Slide, *, mpp: float = 8.0, mask: Path | None = None) -> Tissue:
    """Find the tissue of a slide.

    Args:
        slide: with a known pixel size.
        mpp: micrometres per pixel of the mask; a coarser slide uses its own, a tiny one is looked at more closely, a
            giant one less closely.
        mask: the user's own mask instead, an image of the slide or GeoJSON in level-0 pixels.

    Returns:
        The tissue; empty if there is none.

    Raises:
        HwsiError: MPP_MISSING or MPP_INVALID, MASK_INVALID, SLIDE_CORRUPT (also one larger than any glass).
    """
    mpp_x, mpp_y = slide.mpp_xy
    width_um, height_um = slide.width0 * mpp_x, slide.height0 * mpp_y
    if width_um * height_um / 1e6 > _MOST_MM2:
        raise HwsiError(
            Reason.SLIDE_CORRUPT,
            f"{slide.path.name} says that it is {width_um / 1e3:.0f} x {height_um / 1e3:.0f} mm large; no glass is",
            "the file is damaged, or its resolution is wrong: give it with --mpp",
        )
    mpp = max(slide.mpp, min(mpp, max(width_um, height_um) / _MIN_SIDE_PX), math.sqrt(width_um * height_um / _MOST_PX))
    image = slide.thumbnail(mpp)
    scale0 = (mpp / mpp_x, mpp / mpp_y)
    size0 = (slide.width0, slide.height0)
    pen = pen_marks(image, PEN_UM2 / mpp**2)
    if mask is not None:
        found, polygons = read_user_mask(Path(mask), (image.shape[1], image.shape[0]), scale0, size0)
    else:
        found = tidy(stained(image) & ~pen, mpp) & ~pen
        polygons = mask_to_polygons(found, scale0)
    return Tissue(found, pen, mpp, scale0, size0, polygons)


def tidy(mask: Bool, mpp: float) -> Bool:
    """Close gaps, fill small holes, remove specks; sizes in micrometres at ``mpp`` per pixel."""
    radius = max(1, round(CLOSE_UM / mpp))
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1,) * 2)
    # padded: at the border OpenCV takes the outside for tissue, and would pull the outline to it
    padded = np.pad(mask.astype(np.uint8), radius)
    closed = np.asarray(cv2.morphologyEx(padded, cv2.MORPH_CLOSE, disc), np.uint8)[radius:-radius, radius:-radius]
    speck_px = min(SPECK_UM2 / mpp**2, 0.02 * mask.size)
    solid = _without_small(closed, speck_px, connectivity=4)
    gaps = _without_small(1 - solid, HOLE_UM2 / mpp**2, connectivity=4, keep_border=True)
    return np.asarray(gaps == 0, np.bool_)


def _without_small(
    mask: NDArray[np.uint8], min_px: float, *, connectivity: int, keep_border: bool = False
) -> NDArray[np.uint8]:
    """The connected parts with at least ``min_px`` pixels; with ``keep_border``, also those at the border."""
    _, labels, stats, _ = cv2.connectedComponentsWithStats(mask, connectivity=connectivity)
    keep = stats[:, cv2.CC_STAT_AREA] >= min_px
    if keep_border:
        edges = np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]])
        keep[edges] = True
    keep[0] = False
    return np.asarray(keep[labels], np.uint8)
