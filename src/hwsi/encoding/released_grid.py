"""Regions as the release lays them, so that its coordinates can be reproduced and compared with ours.

- Tissue is what is saturated at a coarse level; each outline has a grid of its own, anchored at its bounding box, so
  grids of neighbours may overlap. A region stays when one of four points around its centre lies in tissue.
- Magnification is a level here: 20 means level 1 and 40 level 0, whatever the scanner. The pitch is 4096 pixels of that
  level, but the release then reads 4096 pixels of level 0: on most slides only a part of the tissue is seen
  (``hierarchy/grid.py`` lays a grid by physical size instead; it is what ``hwsi encode`` uses).
- Regions over the border are laid, then dropped when they are read: :func:`readable` tells which are left.

Source: tissue segmentation and tiling as published with CLAM (Lu et al. 2021, doi:10.1038/s41551-020-00682-w), with the
release's settings. Notation: n vertices, R regions; coordinates are level-0 pixels, x before y.
"""

from dataclasses import dataclass
from typing import Any, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from hwsi.hierarchy.tree import Int

REGION_PX = 4096
SEGMENTATION_DOWNSAMPLE = 64
LEVEL_OF_MAGNIFICATION = {40: 0, 20: 1}

_SATURATION = 8
_MEDIAN_PX = 7
_CLOSE_PX = 4
# areas are counted in squares of this many level-0 pixels
_UNIT_PX0 = 512
_LEAST_TISSUE, _LEAST_HOLE, _MOST_HOLES = 100, 16, 8


class LevelOfSlide(Protocol):
    """A level of a pyramid."""

    @property
    def width(self) -> int:
        """In pixels of that level."""
        ...

    @property
    def height(self) -> int:
        """In pixels of that level."""
        ...

    @property
    def downsample(self) -> float:
        """Level-0 pixels per pixel."""
        ...


class SlideLike(Protocol):
    """What is needed of a slide."""

    @property
    def levels(self) -> tuple[LevelOfSlide, ...]:
        """Finest first."""
        ...

    def read_level(self, level: int, x: int, y: int, w: int, h: int) -> NDArray[np.uint8]:
        """Pixels (h, w, 3) of a level."""
        ...


@dataclass(frozen=True)
class Outline:
    """One piece of tissue: ``contour`` (n, 1, 2) int32 and those of its ``holes``, level-0 pixels."""

    contour: NDArray[np.int32]
    holes: tuple[NDArray[np.int32], ...]


def segment(rgb: NDArray[np.uint8], downsample: float) -> list[Outline]:
    """Tissue in an image ``rgb`` uint8 (h, w, 3) of which a pixel is ``downsample`` level-0 pixels wide."""
    saturation = cv2.medianBlur(cv2.cvtColor(rgb, cv2.COLOR_RGB2HSV)[:, :, 1], _MEDIAN_PX)
    mask = cv2.threshold(saturation, _SATURATION, 255, cv2.THRESH_BINARY)[1]
    mask = cv2.morphologyEx(mask, cv2.MORPH_CLOSE, np.ones((_CLOSE_PX, _CLOSE_PX), np.uint8))
    contours, tree = cv2.findContours(mask, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    if not contours:
        return []
    unit = int(_UNIT_PX0**2 / downsample**2)
    parents = tree[0][:, 3].tolist()
    found = []
    for i, contour in enumerate(contours):
        if parents[i] >= 0:
            continue
        holes = [hole for hole, parent in zip(contours, parents, strict=True) if parent == i]
        area = cv2.contourArea(contour) - sum(cv2.contourArea(hole) for hole in holes)
        if area <= _LEAST_TISSUE * unit:
            continue
        largest = sorted(holes, key=cv2.contourArea, reverse=True)[:_MOST_HOLES]
        kept = [hole for hole in largest if cv2.contourArea(hole) > _LEAST_HOLE * unit]
        found.append(Outline(_scaled(contour, downsample), tuple(_scaled(hole, downsample) for hole in kept)))
    return found


def lay_regions(outlines: list[Outline], downsample: float, *, region_px: int = REGION_PX) -> Int:
    """Corners (R, 2) int64 of the regions of all outlines, column by column within each.

    Args:
        outlines: of :func:`segment`.
        downsample: of the level that stands for the magnification; its whole part counts.
        region_px: side in pixels of that level.
    """
    side = region_px * int(downsample)
    corners = [(x, y) for outline in outlines for x, y in _corners(outline, side) if _touches(outline, x, y, side)]
    return np.array(corners, np.int64).reshape(-1, 2)


def released_regions(slide: SlideLike, magnification: int = 20) -> Int:
    """Corners (R, 2) int64 of the regions that the release lays over a slide; none on a blank one.

    Args:
        slide: an open slide.
        magnification: 20 or 40, which are levels 1 and 0; a slide of one level has only that one.
    """
    segmentation = max(
        (i for i, level in enumerate(slide.levels) if level.downsample <= SEGMENTATION_DOWNSAMPLE), default=0
    )
    coarse = slide.levels[segmentation]
    outlines = segment(slide.read_level(segmentation, 0, 0, coarse.width, coarse.height), coarse.downsample)
    level = min(LEVEL_OF_MAGNIFICATION[magnification], len(slide.levels) - 1)
    return lay_regions(outlines, slide.levels[level].downsample)


def readable(corners: Int, size0: tuple[int, int], *, region_px: int = REGION_PX) -> NDArray[np.bool_]:
    """Which regions (R, 2) the release reads on a slide of ``size0`` (width, height): those wholly inside, (R,)."""
    return np.asarray(((corners >= 0) & (corners + region_px <= np.array(size0))).all(axis=1))


def _scaled(contour: NDArray[Any], downsample: float) -> NDArray[np.int32]:
    return (contour * downsample).astype(np.int32)


def _corners(outline: Outline, side: int) -> list[tuple[int, int]]:
    x, y, w, h = cv2.boundingRect(outline.contour)
    return [(i, j) for i in range(x, x + w, side) for j in range(y, y + h, side)]


def _touches(outline: Outline, x: int, y: int, side: int) -> bool:
    """One of four points at a quarter of the side around the centre is tissue, and the centre is in no hole."""
    cx, cy, quarter = x + side // 2, y + side // 2, side // 4
    points = [(cx + dx, cy + dy) for dx in (-quarter, quarter) for dy in (-quarter, quarter)]
    return any(_inside(outline.contour, *point) >= 0 for point in points) and not any(
        _inside(hole, cx, cy) > 0 for hole in outline.holes
    )


def _inside(contour: NDArray[np.int32], x: float, y: float) -> float:
    """Above zero inside, zero on the line, below zero outside."""
    return float(cv2.pointPolygonTest(contour, (float(x), float(y)), False))
