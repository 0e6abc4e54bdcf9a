"""The direct path: rectangles of a tiled TIFF from its own tiles, without a slide library in between.

- A tile is read by position (``pread``: no shared file offset, so any number of threads) and decoded by
  tifffile's codecs; JPEG tables, photometric interpretation, predictors and planes are theirs to handle.
- A rectangle is put together from the tiles that it touches. What lies on the grid is decoded exactly once, so
  aligned reads are fast; nothing is cached here.
- The pixels are the file's own. OpenSlide gives the same, except on a level whose size is no whole part of
  level 0: there it asks for a fraction of a pixel and interpolates, and this does not.

Notation: T tiles of a page.
"""

import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hwsi.errors import HwsiError, Reason
from hwsi.slide.backend import Image
from hwsi.slide.colour import Colour


class MissingTile(Exception):
    """The file holds no bytes for a tile of this read."""


class TiledPage:
    """One tiled TIFF page.

    Args:
        page: a ``tifffile.TiffPage``; its file may be closed afterwards. Raises ValueError where it is no image
            that can be shown.

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
        self._bytes = list(zip(self.offsets.tolist(), self.counts.tolist(), strict=False))  # numpy's numbers are slow
        self._decode = page.decode
        self._jpegtables = page.jpegtables
        self._colour = Colour.of(page)
        if len(self.offsets) != self.cols * self.rows * self.planes or len(self.counts) != len(self.offsets):
            raise ValueError("the table of tiles does not fit the size of the image")

    def tile(self, fd: int, index: int) -> Image:
        """One decoded tile (h, w, 3), cut at the page's border.

        Raises:
            MissingTile: it has no bytes.
            ValueError: it is cut short, or cannot be decoded.
            OSError: the system cannot read the file.
        """
        step = self.cols * self.rows
        parts = [self._samples(fd, index + plane * step) for plane in range(self.planes)]
        return self._colour.rgb(parts[0] if self.planes == 1 else np.concatenate(parts, axis=2))

    def _samples(self, fd: int, index: int) -> NDArray[Any]:
        offset, n = self._bytes[index]
        if n == 0:
            raise MissingTile(index)
        data = os.pread(fd, n, offset)
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
        if not x % self.tile_w and not y % self.tile_h and (w, h) == (self.tile_w, self.tile_h):
            # what was not compressed is a view of its bytes: the caller gets pixels to write to
            return np.require(self.tile(fd, y // self.tile_h * self.cols + x // self.tile_w), requirements=["C", "W"])
        out = np.empty((h, w, 3), np.uint8)
        for row in range(y // self.tile_h, (y + h - 1) // self.tile_h + 1):
            for col in range(x // self.tile_w, (x + w - 1) // self.tile_w + 1):
                tile = self.tile(fd, row * self.cols + col)
                left, top = col * self.tile_w, row * self.tile_h
                xa, xb = max(x, left), min(x + w, left + self.tile_w)
                ya, yb = max(y, top), min(y + h, top + self.tile_h)
                out[ya - y : yb - y, xa - x : xb - x] = tile[ya - top : yb - top, xa - left : xb - left]
        return out


def corrupt(path: Path, detail: object) -> HwsiError:
    """The refusal of a file that opened, but whose pixels cannot be read."""
    return HwsiError(
        Reason.SLIDE_CORRUPT,
        f"the pixels of {path.name} cannot be read: {detail}",
        "the file is damaged or was copied only in part: copy it again from the scanner or archive",
    )


def unreadable(path: Path, error: OSError) -> HwsiError:
    """The refusal of a file that the system cannot read at present; it may be whole (a share that went away)."""
    return HwsiError(
        Reason.SLIDE_MISSING,
        f"{path.name} cannot be read: {error.strerror or error}",
        "check the drive or network share that holds it, and run again",
    )
