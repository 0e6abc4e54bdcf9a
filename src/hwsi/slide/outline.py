"""Masks to outlines and back; a user's own mask from an image or GeoJSON.

- Outlines are in level-0 pixels, with holes, and valid polygons.
- A user's image may have any size, but the slide's proportions (2 %); GeoJSON is in level-0 pixels, as QuPath
  writes it. What does not fit is refused with the reason, never bent to fit.
"""

import json
import math
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import shapely
from numpy.typing import NDArray
from PIL import Image as Pil
from PIL import UnidentifiedImageError
from shapely.geometry.base import BaseGeometry

from hwsi.errors import HwsiError, Reason

Bool = NDArray[np.bool_]
Scale = tuple[float, float]
"""Level-0 pixels per mask pixel in x and y."""

_SHIFT = 4
"""Binary digits of a pixel's fraction when polygons are drawn."""
_FINER = 4
"""Polygons are drawn this much finer than the mask, since OpenCV draws their border too."""
_MOST_MASK_PX = 16384
"""OpenCV places no image with longer sides than twice this."""
_GEOJSON = (".geojson", ".json")
_TODO = "hand in an image of the whole slide (white is tissue), or GeoJSON polygons in level-0 pixels"


def mask_to_polygons(mask: Bool, scale0: Scale) -> list[shapely.Polygon]:
    """Outlines of the connected parts of a mask, with their holes, in level-0 pixels; largest first."""
    from skimage import measure

    contours: Any = measure.find_contours
    count, labels, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=4)
    polygons: list[shapely.Polygon] = []
    for k in range(1, count):
        x, y, w, h = (int(v) for v in stats[k, :4])
        part = np.pad(labels[y : y + h, x : x + w] == k, 1).astype(np.float32)
        rings = [(ring[:, ::-1] + (x - 0.5, y - 0.5)) * scale0 for ring in contours(part, 0.5)]
        shapes = sorted((shapely.Polygon(ring) for ring in rings if len(ring) > 3), key=lambda p: -p.area)
        outline = shapely.Polygon(shapes[0].exterior, [hole.exterior for hole in shapes[1:]])
        polygons += polygons_of(outline.simplify(0.25 * min(scale0)))
    return sorted(polygons, key=lambda p: -p.area)


def polygons_of(shape: BaseGeometry) -> list[shapely.Polygon]:
    """The valid polygons with an area that a geometry holds."""
    if not shape.is_valid:
        shape = shapely.make_valid(shape)
    return [p for p in shapely.get_parts(shape).tolist() for p in _flat(p)]


def _flat(shape: BaseGeometry) -> Iterator[shapely.Polygon]:
    if isinstance(shape, shapely.Polygon):
        if shape.area > 0:
            yield shape
    elif hasattr(shape, "geoms"):
        for part in shape.geoms:
            yield from _flat(part)


def polygons_to_mask(polygons: list[shapely.Polygon], size: tuple[int, int], scale0: Scale) -> Bool:
    """Draw polygons in level-0 pixels into a mask of ``size`` (width, height): pixels that are half covered."""
    mask = np.zeros((size[1], size[0]), np.bool_)
    for polygon in polygons:
        left, top, right, bottom = np.asarray(polygon.bounds) / (*scale0, *scale0)
        xa, ya = max(0, int(left)), max(0, int(top))
        xb, yb = min(size[0], int(right) + 1), min(size[1], int(bottom) + 1)
        if xa >= xb or ya >= yb:
            continue
        fine = np.zeros(((yb - ya) * _FINER, (xb - xa) * _FINER), np.uint8)
        rings = [
            np.round(((np.asarray(ring.coords) / scale0 - (xa, ya)) * _FINER - 0.5) * (1 << _SHIFT)).astype(np.int32)
            for ring in (polygon.exterior, *polygon.interiors)
        ]
        cv2.fillPoly(fine, rings, 255, shift=_SHIFT)  # even-odd: inner rings become holes
        covered = cv2.resize(fine, (xb - xa, yb - ya), interpolation=cv2.INTER_AREA)
        mask[ya:yb, xa:xb] |= np.asarray(covered >= 128, np.bool_)
    return mask


def read_user_mask(
    path: Path, size: tuple[int, int], scale0: Scale, size0: tuple[int, int]
) -> tuple[Bool, list[shapely.Polygon]]:
    """The user's mask at the size of the tissue mask, and its outlines in level-0 pixels.

    Args:
        path: an image, or GeoJSON by its suffix (``.geojson``, ``.json``).
        size: (width, height) of the mask that is made.
        scale0: level-0 pixels per pixel of it.
        size0: (width, height) of the slide.

    Raises:
        HwsiError: MASK_INVALID.
    """
    if not path.is_file():
        raise _invalid(f"there is no mask {path}")
    if path.suffix.lower() in _GEOJSON:
        polygons = _read_geojson(path, size0)
        return polygons_to_mask(polygons, size, scale0), polygons
    mask = _read_image(path, size, scale0, size0)
    if not mask.any():
        raise _invalid(f"{path.name} marks nothing: all of it is black")
    return mask, mask_to_polygons(mask, scale0)


def _read_image(path: Path, size: tuple[int, int], scale0: Scale, size0: tuple[int, int]) -> Bool:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Pil.DecompressionBombWarning)
            image = Pil.open(path)
        with image:
            if image.mode in ("RGBA", "LA", "PA"):  # what is not painted is black
                shown = image.convert("RGBA")
                grey = np.asarray(Pil.alpha_composite(Pil.new("RGBA", shown.size, "black"), shown).convert("L"))
            else:
                # a palette's numbers are labels, not colours
                grey = np.asarray(image if image.mode in ("1", "P", "L", "I", "I;16", "F") else image.convert("L"))
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError, Pil.DecompressionBombError) as error:
        raise _invalid(f"{path.name} is no image that can be read: {error}") from error
    values = grey.astype(np.float32)
    if values.ndim != 2:
        raise _invalid(f"{path.name} is no plain image: {values.shape}")
    h, w = values.shape
    stretch = (w / h) / (size0[0] / size0[1])
    # a small mask cannot have the exact proportions: half a pixel is forgiven
    if not abs(stretch - 1) <= 0.02 + 0.5 / min(w, h):
        raise _invalid(f"{path.name} has {w} x {h} pixels, other proportions than the slide's {size0[0]} x {size0[1]}")
    most = float(values.max())
    inside = (values > (most / 2 if most > 15 else 0)).astype(np.float32)
    if (fold := math.ceil(max(w, h) / _MOST_MASK_PX)) > 1:
        w, h = max(1, round(w / fold)), max(1, round(h / fold))
        inside = np.asarray(cv2.resize(inside, (w, h), interpolation=cv2.INTER_AREA), np.float32)
    # one mask pixel may reach over the border of the slide, so the user's pixels are placed, not just stretched
    to_user = np.array([[scale0[0] * w / size0[0], 0, 0], [0, scale0[1] * h / size0[1], 0]], np.float64)
    to_user[:, 2] = (to_user[0, 0] - 1) / 2, (to_user[1, 1] - 1) / 2
    if to_user[0, 0] > 1:
        window = max(1, round(to_user[0, 0])), max(1, round(to_user[1, 1]))
        inside = np.asarray(cv2.blur(inside, window), np.float32)
    placed = cv2.warpAffine(
        inside, to_user, size, flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP, borderMode=cv2.BORDER_REPLICATE
    )
    return np.asarray(placed > 0.5, np.bool_)


def _read_geojson(path: Path, size0: tuple[int, int]) -> list[shapely.Polygon]:
    try:
        data = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        raise _invalid(f"{path.name} is no JSON: {error}") from error
    polygons: list[shapely.Polygon] = []
    for geometry in _geometries(data):
        try:
            polygons += polygons_of(shapely.from_geojson(json.dumps(geometry)))
        except (shapely.errors.ShapelyError, ValueError) as error:
            raise _invalid(f"{path.name} holds a geometry that is none: {error}") from error
    if not polygons:
        raise _invalid(f"{path.name} holds no polygon")
    slide = shapely.box(0, 0, *size0)
    inside = [part for p in polygons for part in polygons_of(p.intersection(slide))]
    if not inside:
        x, y = (round(v) for v in polygons[0].bounds[:2])
        raise _invalid(
            f"{path.name} lies outside the slide of {size0[0]} x {size0[1]} pixels (first polygon at {x}, {y})"
        )
    return inside


def _geometries(data: Any) -> Iterator[dict[str, Any]]:
    """All areas of a FeatureCollection, a list of features (older QuPath), a feature or a geometry."""
    if isinstance(data, list):
        for item in data:
            yield from _geometries(item)
    if not isinstance(data, dict):
        return
    match data.get("type"):
        case "FeatureCollection":
            yield from _geometries(data.get("features"))
        case "Feature":
            yield from _geometries(data.get("geometry"))
        case "GeometryCollection":
            yield from _geometries(data.get("geometries"))
        case "Polygon" | "MultiPolygon":
            yield data


def _invalid(what: str) -> HwsiError:
    return HwsiError(Reason.MASK_INVALID, what, _TODO)
