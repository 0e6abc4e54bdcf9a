"""Pictures for people: the slide with its hierarchy, and the tissue that an answer rests on.

- Pixels are a JPEG inside the page; what is drawn on them is vector shapes in the picture's own pixels, so that
  lines stay sharp at any size and a screen reader gets words.
- A scale bar is computed from the slide's microns per pixel, never from a magnification.

Notation: px0 are level-0 pixels of the slide, px are pixels of the picture; ``scale`` is px per px0.
"""

import base64
import io
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from hwsi.hierarchy.labels import region_label
from hwsi.hierarchy.tree import Hierarchy
from hwsi.inference.answer import Evidence

if TYPE_CHECKING:
    from hwsi.slide import Slide

OVERVIEW_PX = 1200
CROP_PX = 400
CROP_MARGIN = 0.12
_BARS_UM = (5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000, 20000)


@dataclass(frozen=True)
class Shape:
    """A closed outline on a picture.

    Attributes:
        kind: ``tissue``, ``region``, ``patch``, ``evidence`` or ``cell``: how it is drawn.
        path: SVG path data in picture pixels.
        title: said when pointed at; may be empty.
    """

    kind: str
    path: str
    title: str = ""


@dataclass(frozen=True)
class Label:
    """Words on a picture, at fractions (left, top) of its sides."""

    text: str
    left: float
    top: float
    strong: bool = False


@dataclass(frozen=True)
class Picture:
    """A picture with what is drawn on it.

    Attributes:
        uri: the pixels as a JPEG data URI.
        width, height: px.
        alt: what it shows, in words.
        bar_um: length of the scale bar in micrometres, and ``bar_fraction`` of the picture's width.
    """

    uri: str
    width: int
    height: int
    alt: str
    bar_um: float
    bar_fraction: float
    shapes: tuple[Shape, ...] = ()
    labels: tuple[Label, ...] = ()

    @property
    def bar_text(self) -> str:
        """The bar's length in a unit that reads well."""
        return f"{self.bar_um / 1000:g} mm" if self.bar_um >= 1000 else f"{self.bar_um:g} µm"


def jpeg_uri(rgb: NDArray[np.uint8], quality: int = 84) -> str:
    """RGB uint8 (h, w, 3) as a JPEG data URI."""
    buffer = io.BytesIO()
    Image.fromarray(rgb).save(buffer, "JPEG", quality=quality, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def scale_bar(width_um: float) -> tuple[float, float]:
    """A round length in micrometres that takes at most about a quarter of ``width_um``, and its fraction of it."""
    fitting = [b for b in _BARS_UM if b <= 0.26 * width_um]
    bar = float(fitting[-1]) if fitting else float(_BARS_UM[0])
    return bar, min(1.0, bar / width_um)


def overview(
    slide: "Slide",
    hierarchy: Hierarchy,
    *,
    tissue: Iterable[Sequence[NDArray[np.float64]]] = (),
    kept: Iterable[int] = (),
    cited: Iterable[Evidence] = (),
    width_px: int = OVERVIEW_PX,
) -> Picture:
    """The whole slide with tissue outline, regions, kept patches and the evidence of the answers.

    Args:
        tissue: polygons, each a list of rings (v, 2) in px0, the first one the outside.
        kept: indices of the patches that the language model sees.
        cited: evidence to mark; each label once.
    """
    longest = max(slide.width0, slide.height0)
    mpp = max(slide.mpp, longest * slide.mpp / width_px)
    rgb = slide.thumbnail(mpp)
    height, width = rgb.shape[:2]
    scale = width / slide.width0
    shapes = [Shape("tissue", "".join(_ring(r, scale) for r in rings), "tissue") for rings in tissue]
    patches, regions = hierarchy.patches, hierarchy.regions
    for n in kept:
        shapes.append(Shape("patch", _box(_clip(patches.xy[n], patches.size0, slide), scale)))
    labels: list[Label] = []
    chosen = {e.label: e for e in reversed(list(cited))}
    readable = regions.size0 * scale >= 44
    for r in range(len(regions)):
        name = region_label(r)
        x0, y0, x1, y1 = _clip(regions.xy[r], regions.size0, slide)
        shapes.append(Shape("region", _box((x0, y0, x1, y1), scale), f"region {name}"))
        if readable or name in chosen:
            labels.append(Label(name, x0 / slide.width0, y0 / slide.height0, name in chosen))
    for e in sorted(chosen.values(), key=lambda e: e.label):
        shapes.append(Shape("evidence", _box(e.box, scale), f"evidence {e.label}"))
    bar_um, fraction = scale_bar(slide.width0 * slide.mpp)
    n_regions = len(regions)
    alt = f"The slide {slide.name} with {n_regions} region{'s' * (n_regions != 1)}"
    if chosen:
        alt += ", evidence marked in " + ", ".join(sorted(chosen))
    return Picture(jpeg_uri(rgb), width, height, alt, bar_um, fraction, tuple(shapes), tuple(labels))


def evidence_picture(slide: "Slide", evidence: Evidence, *, side_px: int = CROP_PX) -> Picture:
    """The tissue of one piece of evidence with a margin around it, its box and its cells outlined."""
    x0, y0, x1, y1 = evidence.box
    side0 = max(x1 - x0, y1 - y0) * (1 + 2 * CROP_MARGIN)
    left, top = (x0 + x1 - side0) / 2, (y0 + y1 - side0) / 2
    px = max(64, min(side_px, round(side0)))
    rgb = slide.read(round(left), round(top), px, side0 * slide.mpp / px)
    scale = px / side0
    shift = np.array([left, top])
    # a cell outline alone shows where the patch is; a box around it too would hide border cells
    shapes = [Shape("cell", _ring(np.asarray(c) - shift, scale), "cell") for c in evidence.contours]
    moved = (x0 - left, y0 - top, x1 - left, y1 - top)
    shapes.append(Shape("frame" if evidence.contours else "evidence", _box(moved, scale), evidence.label))
    bar_um, fraction = scale_bar(side0 * slide.mpp)
    width_um = (x1 - x0) * slide.mpp
    size = f"{width_um / 1000:.2g} mm" if width_um >= 1000 else f"{width_um:.0f} µm"
    cells = f" with {len(evidence.contours)} cells outlined" if evidence.contours else ""
    what = "cells of patch" if evidence.scale == "cell" else evidence.scale
    alt = f"Tissue of {what} {evidence.label}, {size} wide{cells}"
    return Picture(jpeg_uri(rgb), px, px, alt, bar_um, fraction, tuple(shapes))


def _clip(xy: NDArray[np.int64], size0: int, slide: "Slide") -> tuple[float, float, float, float]:
    x, y = float(xy[0]), float(xy[1])
    return max(x, 0.0), max(y, 0.0), min(x + size0, slide.width0), min(y + size0, slide.height0)


def _box(box: Sequence[float], scale: float) -> str:
    x0, y0, x1, y1 = (_number(v * scale) for v in box)
    return f"M{x0} {y0}H{x1}V{y1}H{x0}Z"


def _ring(ring: NDArray[np.float64] | Sequence[tuple[float, float]], scale: float) -> str:
    """Path of a ring (v, 2); vertices closer than half a pixel to the one before are left out."""
    points = np.asarray(ring, np.float64) * scale
    kept = [points[0]]
    for p in points[1:]:
        if math.hypot(*(p - kept[-1])) >= 0.5:
            kept.append(p)
    if len(kept) < 3:
        return ""
    return "M" + "L".join(f"{_number(x)} {_number(y)}" for x, y in kept) + "Z"


def _number(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")
