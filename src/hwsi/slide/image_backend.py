"""Plain pictures (PNG, JPEG, BMP, WebP): one level, decoded once and held; without a pixel size of their own.

- Pixels stand as they are stored. A camera's note that a picture should be shown turned (EXIF) is not followed, so
  that coordinates are those that QuPath and ImageJ show.
"""

import struct
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image as Pil
from PIL import UnidentifiedImageError

from hwsi.errors import HwsiError, Reason
from hwsi.slide.backend import Image, Level, SlideInfo
from hwsi.slide.colour import Colour, over_white
from hwsi.slide.mpp import MppHints
from hwsi.slide.tiles import corrupt

FORMATS = ("PNG", "JPEG", "BMP", "WEBP")

_BROKEN = (OSError, ValueError, SyntaxError, LookupError, TypeError, struct.error)
"""What Pillow raises over damaged data."""


class ImageBackend:
    """See :class:`hwsi.slide.backend.Backend`."""

    direct: tuple[str, ...] = ("not tiled",)

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._pixels: Image | None = None
        self.nbytes = 0
        try:
            with _opened(path) as image:
                width, height = image.size
        except Pil.DecompressionBombError as error:
            raise HwsiError(
                Reason.SLIDE_UNSUPPORTED,
                f"{path.name} is too large for a plain picture: {error}",
                "save it as a tiled pyramidal TIFF",
            ) from error
        self.info = SlideInfo("image", (Level(width, height, 1.0),), MppHints())

    def read(self, level: int, x: int, y: int, w: int, h: int) -> Image:
        """Pixels (h, w, 3); see :class:`hwsi.slide.backend.Backend`."""
        with self._lock:
            if self._pixels is None:
                self._pixels = self._decode()
                self.nbytes = self._pixels.nbytes
            # copied: a view would keep the whole picture in memory, and its reader could write into it
            return self._pixels[y : y + h, x : x + w].copy()

    def _decode(self) -> Image:
        try:
            with _opened(self._path) as image:
                if image.mode == "RGB":
                    return np.asarray(image)
                if image.mode.startswith("I"):  # 16 bits of grey; Pillow would cut off what is above 255
                    return Colour("grey", 16).rgb(np.asarray(image).astype(np.uint16))
                return over_white(np.asarray(image.convert("RGBA")))
        except _BROKEN as error:
            raise corrupt(self._path, error) from error

    def close(self) -> None:
        """Forget the pixels."""
        self._pixels = None


def is_picture(path: Path) -> bool:
    """Whether this is one of :data:`FORMATS`, by its content."""
    try:
        with _opened(path):
            return True
    except Pil.DecompressionBombError:
        return True
    except (UnidentifiedImageError, *_BROKEN):
        return False


@contextmanager
def _opened(path: Path) -> Iterator[Pil.Image]:
    """The picture; Pillow's warning that it is large is not passed on, its refusal of what is far too large is."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Pil.DecompressionBombWarning)
        image = Pil.open(path, formats=FORMATS)
    with image:
        yield image
