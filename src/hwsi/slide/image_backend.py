"""Plain pictures (PNG, JPEG, BMP, WebP): one level, decoded once and held; without a pixel size of their own."""

import threading
from pathlib import Path

import numpy as np
from PIL import Image as Pil
from PIL import UnidentifiedImageError

from hwsi.errors import HwsiError, Reason
from hwsi.slide.backend import Image, Level, SlideInfo
from hwsi.slide.mpp import MppHints
from hwsi.slide.tiles import corrupt, over_white

FORMATS = ("PNG", "JPEG", "BMP", "WEBP")


class ImageBackend:
    """See :class:`hwsi.slide.backend.Backend`."""

    direct: tuple[str, ...] = ("not tiled",)

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._pixels: Image | None = None
        self.nbytes = 0
        try:
            with Pil.open(path, formats=FORMATS) as image:
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
            return self._pixels[y : y + h, x : x + w]

    def _decode(self) -> Image:
        try:
            with Pil.open(self._path, formats=FORMATS) as image:
                if image.mode == "RGB":
                    return np.asarray(image)
                return over_white(np.asarray(image.convert("RGBA")))
        except (OSError, ValueError, SyntaxError) as error:
            raise corrupt(self._path, error) from error

    def close(self) -> None:
        """Forget the pixels."""
        self._pixels = None


def is_picture(path: Path) -> bool:
    """Whether this is one of :data:`FORMATS`, by its content."""
    try:
        with Pil.open(path, formats=FORMATS):
            return True
    except Pil.DecompressionBombError:
        return True
    except (UnidentifiedImageError, OSError, SyntaxError):
        return False
