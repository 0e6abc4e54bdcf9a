"""What every reader of slides gives, whatever the file is.

- A backend holds the operating system's handles; a :class:`~hwsi.slide.slide.Slide` holds what was learnt at
  opening. So a backend can be closed when idle and opened again later.
- A backend reads rectangles that lie inside a level, at that level's own pixels: nothing is resampled here.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from hwsi.slide.mpp import MppHints

Image = NDArray[np.uint8]


@dataclass(frozen=True)
class Level:
    """One level of a pyramid.

    Attributes:
        width, height: in pixels of this level.
        downsample: level-0 pixels per pixel of this level.
    """

    width: int
    height: int
    downsample: float


@dataclass(frozen=True)
class SlideInfo:
    """What is learnt once, at opening.

    Attributes:
        vendor: 'aperio', 'hamamatsu', 'generic-tiff', 'dicom', 'ome-tiff', 'tiff', 'image', ...
        levels: finest first; at least one.
        mpp_hints: what the file says about its pixel size.
        objective_power: the objective's magnification, if the file names it.
        associated: names of other images in the file (label, macro, ...); they are never read by themselves.
        properties: the file's own properties, as text.
    """

    vendor: str
    levels: tuple[Level, ...]
    mpp_hints: MppHints
    objective_power: float | None = None
    associated: tuple[str, ...] = ()
    properties: Mapping[str, str] = field(default_factory=dict)


class Backend(Protocol):
    """An open file. ``read`` may be called from several threads at once."""

    info: SlideInfo
    nbytes: int
    """Memory that this backend keeps while open, as far as it is more than some tables."""

    @property
    def direct(self) -> tuple[str, ...]:
        """Per level: '' where tiles are decoded directly, else why they are not."""
        ...

    def read(self, level: int, x: int, y: int, w: int, h: int) -> Image:
        """Pixels (h, w, 3) of a rectangle that lies wholly inside the level.

        Raises:
            HwsiError: SLIDE_CORRUPT, the file opened but its pixels cannot be decoded.
        """
        ...

    def close(self) -> None:
        """Give the handles back; nothing is read after this."""
        ...


def exact_downsample(width0: int, height0: int, width: int, height: int) -> float:
    """Level-0 pixels per pixel of a level of this size.

    Writers drop or add a part of a pixel at the border, so that the ratio of the sizes is a little off the
    factor which they used. Where a whole factor explains both sizes, that factor is the truth.
    """
    ratio = (width0 / width + height0 / height) / 2
    whole = max(1, round(ratio))
    if abs(width0 / whole - width) < 1 and abs(height0 / whole - height) < 1:
        return float(whole)
    return ratio
