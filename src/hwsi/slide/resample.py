"""A physical footprint at any resolution, exact to a fraction of a pixel, in bounded memory.

- Output pixel i covers ``[start + i * scale, start + (i + 1) * scale)`` of the level. First whole blocks of
  ``floor(scale)`` pixels are averaged (exact area), then what remains (1 to 2 fold, or an enlargement) is done by
  an antialiased bicubic with a fractional box; with a whole scale on whole pixels the second step falls away.
- Blocks are anchored at the level's origin and every strip is read with a margin for the filter, so a read does
  not depend on how it was cut: neighbouring reads agree with one larger read.
- A level that is read at its own resolution, on whole pixels, is handed through untouched.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
from PIL import Image as Pil

from hwsi.slide.backend import Image

_SLACK = 1 / 64
"""Pixels of the level by which a read may be shifted or stretched as a whole to spare a resampling."""
_BUDGET_PX = 1 << 24
"""Source pixels that are held at once."""
_SUPPORT = 2.0
"""Bicubic support, in output pixels when it shrinks and source pixels when it enlarges."""

ReadLevel = Callable[[int, int, int, int], Image]
"""(x, y, w, h) in pixels of a level to (h, w, 3); white outside."""


@dataclass(frozen=True)
class Axis:
    """How ``n`` output pixels lie on one axis of a level.

    Attributes:
        start: where the first begins, in pixels of the level.
        scale: pixels of the level per output pixel.
        n: output pixels.
        block: pixels of the level that are averaged first.
        anchor: where a block begins.
        plain: nothing is left to do after averaging.
    """

    start: float
    scale: float
    n: int
    block: int
    anchor: int
    plain: bool

    @classmethod
    def of(cls, start: float, scale: float, n: int) -> "Axis":
        """Choose block and anchor."""
        block = max(1, math.floor(scale + 1e-6))
        whole = abs(scale - block) * n <= _SLACK and abs(start - round(start)) <= _SLACK
        return cls(start, scale, n, block, round(start) if whole else 0, whole)

    def source(self, first: int, count: int) -> tuple[int, int]:
        """Blocks [a, b), counted from the anchor, that output pixels first, first + 1, ... need."""
        if self.plain:
            return first, first + count
        rest = self.scale / self.block
        margin = _SUPPORT * max(1.0, rest) + 1
        begin = (self.start - self.anchor) / self.block + first * rest
        return math.floor(begin - margin), math.ceil(begin + count * rest + margin)

    def box(self, first: int, count: int, origin: int) -> tuple[float, float]:
        """Where those output pixels lie, in blocks from ``origin``."""
        if self.plain:
            return 0.0, float(count)
        rest = self.scale / self.block
        begin = (self.start - self.anchor) / self.block + first * rest - origin
        return begin, begin + count * rest


def resample(read: ReadLevel, x: Axis, y: Axis) -> Image:
    """Pixels (y.n, x.n, 3) of the footprint."""
    out = np.empty((y.n, x.n, 3), np.uint8)
    cols = max(1, min(x.n, math.floor(_BUDGET_PX / 1024 / x.scale)))
    rows = max(1, min(y.n, math.floor(_BUDGET_PX / min(x.n * x.scale, cols * x.scale + 16) / y.scale)))
    for top in range(0, y.n, rows):
        for left in range(0, x.n, cols):
            h, w = min(rows, y.n - top), min(cols, x.n - left)
            out[top : top + h, left : left + w] = _part(read, x, y, left, top, w, h)
    return out


def _part(read: ReadLevel, x: Axis, y: Axis, left: int, top: int, w: int, h: int) -> Image:
    xa, xb = x.source(left, w)
    ya, yb = y.source(top, h)
    size = ((xb - xa) * x.block, (yb - ya) * y.block)
    pixels = read(x.anchor + xa * x.block, y.anchor + ya * y.block, *size)
    if x.block > 1 or y.block > 1:
        pixels = np.asarray(cv2.resize(pixels, (xb - xa, yb - ya), interpolation=cv2.INTER_AREA), np.uint8)
    if x.plain and y.plain:
        return pixels
    left_px, right_px = x.box(left, w, xa)
    top_px, bottom_px = y.box(top, h, ya)
    image = Pil.fromarray(np.ascontiguousarray(pixels))
    return np.asarray(image.resize((w, h), Pil.Resampling.BICUBIC, box=(left_px, top_px, right_px, bottom_px)))
