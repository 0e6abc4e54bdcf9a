"""Each nucleus of a label map as outline, measurements and crop: what a cell encoder looks at.

- Outlines run along the edges of the pixels, not through their centres: a nucleus of 10 px would lose a fifth of
  its area.
- Crops carry the nucleus' own mask as fourth channel, so that a neighbour in the picture doesn't confuse.
- Everything is gathered at once; only outlines go cell by cell.

Notation: m nuclei in a label map of numbers 1..m.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import cKDTree

from hwsi.encoders.nuclei import WORK_MPP, Image, Labels, Settings, segment, stains
from hwsi.errors import HwsiError, Reason

CROP_PX = 32
COARSEST_MPP = 0.8
MEASURES = (
    "log_area", "log_major", "eccentricity", "solidity", "circularity", "haematoxylin", "haematoxylin_sd",
    "haematoxylin_max", "eosin", "contrast", "log_nearest", "log_neighbours",
)  # fmt: skip
"""Names of the columns of :attr:`Nuclei.measures`; lengths in um, stains in optical density."""

_VERTICES = 24
_FINER = 3  # outlines are traced on the mask magnified this much
_EDGE = 0.5 - 0.5 / _FINER  # half a magnified pixel further out, since the tracing runs through pixels' centres
_NEIGHBOUR_UM = 15.0

Float = NDArray[np.float32]
Real = NDArray[np.float64]
Whole = NDArray[np.integer[Any]]


@dataclass(frozen=True)
class Nuclei:
    """The nuclei of one image.

    Attributes:
        xy: (m, 2) float32, centroids in pixels of the image handed in (centre of the first pixel is 0, 0).
        contours: m arrays (3 <= v <= 24, 2) float32 in the same pixels, not closed.
        area_um2: (m,) float32.
        measures: (m, 12) float32, see :data:`MEASURES`.
        crops: (m, 32, 32, 4) uint8 at 0.5 um/px: RGB, and 255 where the nucleus itself is.
    """

    xy: Float
    contours: list[Float]
    area_um2: Float
    measures: Float
    crops: Image

    def __len__(self) -> int:
        return len(self.xy)


def find_nuclei(
    image: Image, mpp: float, core: tuple[float, float, float, float] | None = None, settings: Settings | None = None
) -> Nuclei:
    """Nuclei of RGB uint8 (H, W, 3) at ``mpp`` whose centroids lie in ``core``, by their rows.

    Args:
        core: (x0, y0, x1, y1) in pixels of the image, half-open; None for all.

    Raises:
        HwsiError: TOO_COARSE above 0.8 um/px, OPTION_INVALID for what is no RGB image.
    """
    work, scale = at_work_mpp(image, mpp)
    return describe(work, segment(work, settings or Settings()), scale=scale, core=core)


def at_work_mpp(image: Image, mpp: float) -> tuple[Image, tuple[float, float]]:
    """The image at 0.5 um/px, and how many pixels of the image one of its pixels is, in x and y."""
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
        what = f"cells are looked for in RGB uint8 (H, W, 3), not in {image.dtype} {image.shape}"
        raise HwsiError(Reason.OPTION_INVALID, what, "hand in an RGB image")
    if not 0 < mpp <= COARSEST_MPP:
        what = f"nuclei can't be told apart at {mpp:g} um/px"
        raise HwsiError(Reason.TOO_COARSE, what, f"hand in an image of at most {COARSEST_MPP} um/px")
    h, w = image.shape[:2]
    size = max(1, round(w * mpp / WORK_MPP)), max(1, round(h * mpp / WORK_MPP))
    if size == (w, h):
        return np.ascontiguousarray(image), (1.0, 1.0)
    how = cv2.INTER_AREA if mpp < WORK_MPP else cv2.INTER_CUBIC
    return cv2.resize(image, size, interpolation=how).astype(np.uint8, copy=False), (w / size[0], h / size[1])


def describe(
    image: Image,
    labels: Labels,
    *,
    scale: tuple[float, float] = (1.0, 1.0),
    core: tuple[float, float, float, float] | None = None,
) -> Nuclei:
    """Nuclei given as a label map (numbers 1..m, none missing) of an image at 0.5 um/px.

    Args:
        scale: pixels of the caller's image per pixel here; ``xy`` and ``contours`` come out in the caller's.
        core: in the caller's pixels.
    """
    m = int(labels.max(initial=0))
    flat = np.flatnonzero(labels)
    own = labels.ravel()[flat]
    y, x = np.divmod(flat, labels.shape[1])
    area_px = np.bincount(own, minlength=m + 1)[1:]
    cx, cy = _sum(own, x, m) / area_px, _sum(own, y, m) / area_px
    zoom = np.array(scale)
    # rounded before it is compared, so that the centroid as given out decides on which side of a border it lies
    xy = ((np.stack([cx, cy], 1) + 0.5) * zoom - 0.5).astype(np.float32)

    x0, y0, x1, y1 = core if core is not None else (-np.inf, -np.inf, np.inf, np.inf)
    keep = (xy[:, 0] >= x0) & (xy[:, 0] < x1) & (xy[:, 1] >= y0) & (xy[:, 1] < y1)
    kept = np.flatnonzero(keep)
    kept = kept[np.lexsort((cx[kept], cy[kept].round()))]

    outlines = list(_outlines(labels, kept))
    shape = np.array([_outline_shape(c) for c in outlines]).reshape(-1, 2)
    measures = np.concatenate(
        [
            _moments(own, x, y, cx, cy, area_px)[kept],
            shape,
            _stain(image, flat, own, area_px)[kept],
            _company(cx, cy)[kept],
        ],
        axis=1,
    )
    return Nuclei(
        xy=xy[kept],
        contours=[((c + 0.5) * zoom - 0.5).astype(np.float32) for c in outlines],
        area_um2=(area_px[kept] * WORK_MPP**2).astype(np.float32),
        measures=measures.astype(np.float32),
        crops=_crops(image, labels, np.stack([cx, cy], 1)[kept], kept + 1),
    )


def _moments(own: Whole, x: Whole, y: Whole, cx: Real, cy: Real, area_px: Whole) -> Real:
    """(m, 3): log area, log major axis, eccentricity, from second moments."""
    m = len(area_px)
    dx, dy = x - cx[own - 1], y - cy[own - 1]
    # 1/12 is the moment of a pixel itself: without it a line of pixels has no width
    xx = _sum(own, dx * dx, m) / area_px + 1 / 12
    yy = _sum(own, dy * dy, m) / area_px + 1 / 12
    xy = _sum(own, dx * dy, m) / area_px
    mean, spread = (xx + yy) / 2, np.hypot((xx - yy) / 2, xy)
    long, short = mean + spread, np.maximum(mean - spread, 1e-6)
    major_um = 4 * np.sqrt(long) * WORK_MPP
    return np.stack([np.log(area_px * WORK_MPP**2), np.log(major_um), np.sqrt(1 - short / long)], 1)


def _stain(image: Image, flat: Whole, own: Whole, area_px: Whole) -> Real:
    """(m, 5): mean, deviation and maximum of haematoxylin, mean of eosin, contrast to the surroundings."""
    m = len(area_px)
    haematoxylin, eosin = stains(image)
    around = cv2.GaussianBlur(haematoxylin, (0, 0), Settings().background_um / WORK_MPP).ravel()[flat]
    # the highest of a smoothed map: one noisy pixel is no nucleolus
    smooth = cv2.GaussianBlur(haematoxylin, (0, 0), 0.7).ravel()[flat]
    h = haematoxylin.ravel()[flat]
    mean = _sum(own, h, m) / area_px
    deviation = np.sqrt(np.maximum(_sum(own, h * h, m) / area_px - mean**2, 0))
    highest = np.zeros(m + 1)
    np.maximum.at(highest, own, smooth)
    red = _sum(own, eosin.ravel()[flat], m) / area_px
    return np.stack([mean, deviation, highest[1:], red, mean - _sum(own, around, m) / area_px], 1)


def _sum(own: Whole, values: NDArray[Any], m: int) -> Real:
    """Sums (m,) of ``values`` over the pixels of each nucleus."""
    return np.bincount(own, values, m + 1)[1:].astype(np.float64, copy=False)


def _company(cx: Real, cy: Real) -> Real:
    """(m, 2): log distance to the nearest nucleus in um, log of 1 + number within 15 um."""
    if len(cx) == 0:
        return np.zeros((0, 2))
    points = np.stack([cx, cy], 1) * WORK_MPP
    tree = cKDTree(points)
    nearest = np.asarray(tree.query(points, k=2)[0])[:, 1]
    number = np.asarray(tree.query_ball_point(points, _NEIGHBOUR_UM, return_length=True)) - 1
    return np.stack([np.log(np.minimum(nearest, 100.0) + 1e-3), np.log1p(number)], 1)


def _outlines(labels: Labels, kept: Whole) -> Iterator[Real]:
    """Outlines (v, 2) in pixels of the label map, of the nuclei ``kept`` (numbers - 1)."""
    boxes = ndimage.find_objects(labels)
    for k in kept:
        rows, cols = boxes[k]
        part = labels[rows, cols]
        mask = np.zeros((part.shape[0] + 2, part.shape[1] + 2), np.float32)
        mask[1:-1, 1:-1] = part == k + 1
        big = cv2.resize(mask, None, fx=_FINER, fy=_FINER, interpolation=cv2.INTER_LINEAR) > _EDGE
        found, _ = cv2.findContours(big.view(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        line = max(found, key=len)
        tolerance = 1.0
        outline = cv2.approxPolyDP(line, tolerance, True)
        while len(outline) > _VERTICES:
            tolerance *= 1.4
            outline = cv2.approxPolyDP(line, tolerance, True)
        if len(outline) < 3:
            outline = cv2.boxPoints(cv2.minAreaRect(line))
        corner = np.array([cols.start - 1, rows.start - 1])
        yield (outline.reshape(-1, 2) + 0.5) / _FINER - 0.5 + corner


def _outline_shape(outline: Real) -> tuple[float, float]:
    """Solidity (area by area of the convex hull) and circularity (1 for a circle)."""
    line = outline.astype(np.float32)
    area = cv2.contourArea(line)
    hull = cv2.contourArea(cv2.convexHull(line))
    around = cv2.arcLength(line, True)
    return area / max(hull, 1e-6), min(1.0, 4 * np.pi * area / max(around**2, 1e-6))


def _crops(image: Image, labels: Labels, centre: Real, number: Whole) -> Image:
    """(m, 32, 32, 4) around centres (m, 2) as x, y; the image is mirrored at its border, where no nucleus is."""
    half = CROP_PX // 2
    framed = cv2.copyMakeBorder(image, half, half, half, half, cv2.BORDER_REFLECT_101)
    numbers = cv2.copyMakeBorder(labels, half, half, half, half, cv2.BORDER_CONSTANT, value=0)
    # the pixel of the centroid becomes pixel (16, 16) of the crop
    corner = np.floor(centre + 0.5).astype(np.intp)
    step = np.arange(CROP_PX)
    rows = corner[:, 1, None, None] + step[None, :, None]
    cols = corner[:, 0, None, None] + step[None, None, :]
    crops = np.empty((len(centre), CROP_PX, CROP_PX, 4), np.uint8)
    crops[..., :3] = framed[rows, cols]
    crops[..., 3] = (numbers[rows, cols] == number[:, None, None]) * np.uint8(255)
    return crops
