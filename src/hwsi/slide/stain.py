"""Which pixels of a thumbnail are tissue, and which are pen: by optical density, that is, by absorbed light.

- Haematoxylin and eosin both absorb green most, and blue never more than green. A marker does not keep to
  that: green and blue pens absorb red more than green; red pens absorb blue as much as green and hardly any
  red; black ink absorbs all alike. So dense blue nuclei (a lymph node) are not taken for a blue pen.
- The threshold of tissue is Otsu's, held inside bounds: a blank slide has no tissue at any threshold, and a slide
  that is all tissue must not lose its paler half.
- Fluorescence (bright on black) is inverted first, and has no pen.

Notation: OD optical density, -log10 of transmitted light, of red, green, blue.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from hwsi.slide.backend import Image

Bool = NDArray[np.bool_]
Float = NDArray[np.float32]

_GLASS_FLOOR = 215
"""No background is taken to be darker than this (a slide that is all tissue shows no glass)."""
_SCORE_MIN, _SCORE_MAX = 0.035, 0.075
"""Bounds of the threshold on the score: above the noise of glass, below the palest stroma."""
_DARK_MEDIAN = 40
_MOST_PEN = 0.5
_UNSCANNED = 12
"""Scanners fill what they did not scan with black; darker than any ink."""


@dataclass(frozen=True)
class PenRule:
    """Limits for pixels of a pen: strict ones start a mark, loose ones continue it.

    Attributes:
        cool: green and blue pens: OD red above green by (difference, ratio).
        warm: red pens: (OD green above red, OD blue over green, most OD red).
        black: (least mean OD, most spread over mean).
    """

    cool: tuple[float, float]
    warm: tuple[float, float, float]
    black: tuple[float, float]

    def find(self, od: Float) -> Bool:
        """Pixels (h, w) within these limits; ``od`` is (h, w, 3)."""
        r, g, b = od[..., 0], od[..., 1], od[..., 2]
        mean = od.mean(axis=2)
        cool = (r - g > self.cool[0]) & (r > self.cool[1] * g)
        warm = (g - r > self.warm[0]) & (b > self.warm[1] * g) & (r < self.warm[2])
        black = (mean > self.black[0]) & (od.max(axis=2) - od.min(axis=2) < self.black[1] * mean)
        found: Bool = cool | warm | black
        return found


_START = PenRule(cool=(0.12, 1.4), warm=(0.70, 0.90, 0.25), black=(0.65, 0.18))
_CONTINUE = PenRule(cool=(0.05, 1.2), warm=(0.30, 0.82, 0.28), black=(0.40, 0.25))


def is_dark_field(image: Image) -> bool:
    """Whether a thumbnail is bright on black (fluorescence)."""
    return bool(np.median(image.max(axis=2)) < _DARK_MEDIAN)


def optical_density(image: Image) -> Float:
    """OD (h, w, 3) against the glass of this very thumbnail; slightly smoothed against noise."""
    smooth = cv2.GaussianBlur(image, (0, 0), 0.8).astype(np.float32)
    glass = np.clip(np.percentile(image.reshape(-1, 3), 99, axis=0), _GLASS_FLOOR, 255)
    od: Float = np.maximum(-np.log10((smooth + 1) / (glass.astype(np.float32) + 1)), 0).astype(np.float32)
    return od


def stained(image: Image) -> Bool:
    """Pixels (h, w) that carry stain, before anything is known about shape."""
    unscanned = image.max(axis=2) <= _UNSCANNED
    if is_dark_field(image):
        image, unscanned = ~image, np.zeros(image.shape[:2], np.bool_)
    od = optical_density(image)
    # colour tells stain from shadows and dust, density adds what is dark
    score = od.max(axis=2) - od.min(axis=2) + 0.35 * od.mean(axis=2)
    level = float(np.clip(_otsu(score[~unscanned]), _SCORE_MIN, _SCORE_MAX))
    result: Bool = (score > level) & ~unscanned
    return result


def pen_marks(image: Image, min_px: float) -> Bool:
    """Pixels (h, w) of pen: marks that start strictly, grown while they look like pen; at least ``min_px`` large."""
    if is_dark_field(image):
        return np.zeros(image.shape[:2], np.bool_)
    od = optical_density(image)
    unscanned = image.max(axis=2) <= _UNSCANNED
    start, grown = _START.find(od) & ~unscanned, _CONTINUE.find(od) & ~unscanned
    # a mark is a stroke, not a pixel: what a small opening takes away does not start one
    start = cv2.morphologyEx(start.astype(np.uint8), cv2.MORPH_OPEN, np.ones((2, 2), np.uint8)).astype(np.bool_)
    count, labels, stats, _ = cv2.connectedComponentsWithStats((grown | start).astype(np.uint8), connectivity=8)
    started = np.bincount(labels[start], minlength=count)
    keep = (started >= max(1.0, min_px / 4)) & (stats[:, cv2.CC_STAT_AREA] >= min_px)
    keep[0] = False
    marks = keep[labels].astype(np.uint8)
    # the edge of a stroke is soft, and light comes through bubbles in it
    marks = cv2.morphologyEx(marks, cv2.MORPH_CLOSE, _disc(3))
    result: Bool = np.asarray(cv2.dilate(marks, _disc(2)), np.bool_)
    # what lies over most of the glass is a blue stain (trichrome, toluidine), not a pen
    return result if result.mean() < _MOST_PEN else np.zeros_like(result)


def _disc(radius: int) -> NDArray[np.uint8]:
    return np.asarray(cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1,) * 2), np.uint8)


def _otsu(values: Float) -> float:
    """The threshold that parts values best into two classes; 0 if there are none."""
    if values.size == 0:
        return 0.0
    top = max(float(values.max()), 1e-6)
    scaled = np.clip(values / top * 255, 0, 255).astype(np.uint8).reshape(1, -1)
    level, _ = cv2.threshold(scaled, 0, 255, cv2.THRESH_BINARY | cv2.THRESH_OTSU)
    return float(level) / 255 * top
