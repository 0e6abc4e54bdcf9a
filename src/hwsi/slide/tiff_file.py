"""tifffile, as the readers here use it: quiet, and with one list of what it raises over a damaged file.

- What tifffile finds odd it also logs; what matters is raised, and stderr belongs to the command line. Its log is
  muted while a call of ours runs, and only then: a program around this one keeps its own settings.
- A file cut short is known before its pixels are read: its tables name tiles that lie beyond its end.
"""

import logging
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import tifffile

BROKEN = (
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    ArithmeticError,
    RuntimeError,
    AssertionError,
    MemoryError,
    SyntaxError,
    struct.error,
    OSError,
)
"""What tifffile and its codecs raise over damaged tables and data (``TiffFileError`` is a ValueError)."""

_MOST_TILE_PX = 1 << 28
"""More pixels than this in a tile can only be damage, and would be asked for from memory at once."""


class _Mute(logging.Filter):
    """Lets no record through while a call runs; calls may overlap in threads."""

    def __init__(self) -> None:
        super().__init__()
        self._lock = threading.Lock()
        self._calls = 0

    def filter(self, record: logging.LogRecord) -> bool:
        return False

    def __enter__(self) -> None:
        with self._lock:
            self._calls += 1
            if self._calls == 1:
                logging.getLogger("tifffile").addFilter(self)

    def __exit__(self, *error: object) -> None:
        with self._lock:
            self._calls -= 1
            if self._calls == 0:
                logging.getLogger("tifffile").removeFilter(self)


_muted = _Mute()


@contextmanager
def open_tiff(path: Path) -> Iterator[Any]:
    """The ``tifffile.TiffFile`` of a path, muted for as long as the block lasts. Errors: :data:`BROKEN`."""
    with _muted, tifffile.TiffFile(path) as tif:
        yield tif


def pages_of(tif: Any) -> Iterator[Any]:
    """The pages of an open file; of a damaged one, whose pages follow each other in a circle, each once.

    Raises:
        ValueError: they do. tifffile would go round for ever.
    """
    seen: set[int] = set()
    for page in tif.pages:
        if page.offset in seen:
            raise ValueError("its images follow each other in a circle")
        seen.add(page.offset)
        yield page


def absurd_tile(tif: Any) -> str:
    """'' or what is impossible about the tiles of an open file; a reader that believed it would run out of memory."""
    for number, page in enumerate(pages_of(tif)):
        w, h = int(page.tilewidth), int(page.tilelength)
        if w * h > _MOST_TILE_PX:
            return f"image {number} has tiles of {w} x {h} pixels"
    return ""


def cut_short(path: Path) -> str:
    """'' or how many of a TIFF's tiles and strips lie beyond its end. Errors: :data:`BROKEN`."""
    size = path.stat().st_size
    beyond = total = 0
    with open_tiff(path) as tif:
        pages = [*pages_of(tif)]
        pages += [level for page in pages for level in page.pages or ()]
        for page in pages:
            for offset, count in zip(page.dataoffsets, page.databytecounts, strict=False):
                total += count > 0
                beyond += count > 0 and offset + count > size
    return f"{beyond} of its {total} tiles and strips lie beyond the end of the file" if beyond else ""
