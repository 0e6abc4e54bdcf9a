"""The direct path: rectangles of a tiled TIFF from its own tiles, without a slide library in between.

- A tile is read by position (``pread``: no shared file offset, so any number of threads) and decoded by
  tifffile's codecs; JPEG tables, photometric interpretation, predictors and planes are theirs to handle.
- A rectangle is put together from the tiles that it touches. What lies on the grid is decoded exactly once, so
  aligned reads are fast; nothing is cached here.
- The pixels are the file's own. OpenSlide gives the same, except on a level whose size is no whole part of
  level 0: there it asks for a fraction of a pixel and interpolates, and this does not.

Notation: T tiles of a page, S samples (1 grey, 3 RGB, 4 RGB and alpha).
"""

import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hwsi.errors import HwsiError, Reason
from hwsi.slide.backend import Image


class MissingTile(Exception):
    """The file holds no bytes for a tile of this read."""


class TiledPage:
    """One tiled TIFF page.

    Args:
        page: a ``tifffile.TiffPage``; its file may be closed afterwards.

    Attributes:
        width, height: in pixels.
        tile_w, tile_h: in pixels.
        counts: (T,) int64, bytes of every tile; 0 means that it is missing.
    """

    def __init__(self, page: Any) -> None:
        self.width, self.height = int(page.imagewidth), int(page.imagelength)
        self.tile_w, self.tile_h = int(page.tilewidth), int(page.tilelength)
        self.cols = -(-self.width // self.tile_w)
        self.rows = -(-self.height // self.tile_h)
        self.planes = int(page.samplesperpixel) if int(page.planarconfig) == 2 else 1
        self.offsets: NDArray[np.int64] = np.asarray(page.dataoffsets, np.int64)
        self.counts: NDArray[np.int64] = np.asarray(page.databytecounts, np.int64)
        self._decode = page.decode
        self._jpegtables = page.jpegtables
        self._inverted = page.photometric.name == "MINISWHITE"
        if len(self.offsets) != self.cols * self.rows * self.planes or len(self.counts) != len(self.offsets):
            raise ValueError("the table of tiles does not fit the size of the image")

    def tile(self, fd: int, index: int) -> Image:
        """One decoded tile (h, w, 3), cut at the page's border.

        Raises:
            MissingTile: it has no bytes.
            ValueError: it is cut short, or cannot be decoded.
        """
        step = self.cols * self.rows
        parts = [self._samples(fd, index + plane * step) for plane in range(self.planes)]
        return to_rgb(parts[0] if self.planes == 1 else np.concatenate(parts[:4], axis=2), self._inverted)

    def _samples(self, fd: int, index: int) -> NDArray[Any]:
        n = int(self.counts[index])
        if n == 0:
            raise MissingTile(index)
        data = os.pread(fd, n, int(self.offsets[index]))
        if len(data) != n:
            raise ValueError(f"tile {index} is cut short: {len(data)} of {n} bytes")
        try:
            decoded = self._decode(data, index, jpegtables=self._jpegtables)[0]
        except (RuntimeError, TypeError, OverflowError, MemoryError) as error:
            # codecs raise subclasses of RuntimeError for damaged data
            raise ValueError(f"tile {index}: {error}") from error
        if decoded is None:
            raise MissingTile(index)
        return np.asarray(decoded[0])

    def read(self, fd: int, x: int, y: int, w: int, h: int) -> Image:
        """Pixels (h, w, 3) of a rectangle inside the page; errors as in :meth:`tile`."""
        out = np.empty((h, w, 3), np.uint8)
        for row in range(y // self.tile_h, (y + h - 1) // self.tile_h + 1):
            for col in range(x // self.tile_w, (x + w - 1) // self.tile_w + 1):
                tile = self.tile(fd, row * self.cols + col)
                left, top = col * self.tile_w, row * self.tile_h
                xa, xb = max(x, left), min(x + w, left + self.tile_w)
                ya, yb = max(y, top), min(y + h, top + self.tile_h)
                out[ya - y : yb - y, xa - x : xb - x] = tile[ya - top : yb - top, xa - left : xb - left]
        return out


def to_rgb(samples: NDArray[Any], inverted: bool = False) -> Image:
    """(h, w, S) of 8 or 16 bits to (h, w, 3) uint8 RGB over white.

    Raises:
        ValueError: neither 8 nor 16 bits, or not 1 to 4 samples.
    """
    if samples.ndim == 2:
        samples = samples[..., None]
    if samples.dtype == np.uint16:
        samples = (samples // 257).astype(np.uint8)
    if samples.dtype == np.bool_:
        samples = samples.astype(np.uint8) * np.uint8(255)
    if samples.dtype != np.uint8 or not 1 <= samples.shape[2] <= 4:
        raise ValueError(f"{samples.shape[2]} samples of {samples.dtype} are no RGB image")
    if inverted:
        samples = ~samples
    match samples.shape[2]:
        case 3:
            return samples
        case 4:
            return over_white(samples)
        case _:
            return np.repeat(samples[..., :1], 3, axis=2)


def over_white(rgba: Image) -> Image:
    """(h, w, 4) with straight alpha to (h, w, 3) over white."""
    alpha = rgba[..., 3:]
    if alpha.min(initial=255) == 255:
        return np.ascontiguousarray(rgba[..., :3])
    a = alpha.astype(np.uint16)
    return ((rgba[..., :3] * a + 255 * (255 - a) + 127) // 255).astype(np.uint8)


def corrupt(path: Path, detail: object) -> HwsiError:
    """The refusal of a file that opened, but whose pixels cannot be read."""
    return HwsiError(
        Reason.SLIDE_CORRUPT,
        f"the pixels of {path.name} cannot be read: {detail}",
        "the file is damaged or was copied only in part: copy it again from the scanner or archive",
    )
