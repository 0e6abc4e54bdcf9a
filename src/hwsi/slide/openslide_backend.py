"""Slides through OpenSlide 4: Aperio, Hamamatsu, MIRAX, Leica, Ventana, Philips, DICOM, generic TIFF, ...

- One small tile cache is shared by all slides, so that memory does not grow with the number of open slides.
- Tiled TIFFs whose levels are plain pages (Aperio, generic) are read by the direct path (``tiles.py``), once a
  tile of the level was seen to be equal to OpenSlide's; ``direct`` says per level why not, where it is not.
- The label is never read: its name is listed, its pixels may hold a patient's name.
"""

import os
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import openslide

from hwsi.errors import HwsiError, Reason
from hwsi.slide.backend import Image, Level, SlideInfo, exact_downsample
from hwsi.slide.colour import over_white
from hwsi.slide.mpp import from_openslide
from hwsi.slide.tiles import MissingTile, TiledPage, corrupt, unreadable

_CACHE_BYTES = 64 << 20
_DIRECT_VENDORS = ("aperio", "generic-tiff")
_UNTESTED = "not tried yet"

_cache: openslide.OpenSlideCache | None = None
_cache_lock = threading.Lock()


def _shared_cache() -> openslide.OpenSlideCache:
    global _cache
    with _cache_lock:
        if _cache is None:
            _cache = openslide.OpenSlideCache(_CACHE_BYTES)
        return _cache


def detect(path: Path) -> str | None:
    """OpenSlide's name for the format, or None if it does not know the file."""
    vendor: str | None = openslide.OpenSlide.detect_format(str(path))
    return vendor


class OpenSlideBackend:
    """See :class:`hwsi.slide.backend.Backend`."""

    nbytes = 0

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self._slide = openslide.OpenSlide(str(path))
        except openslide.OpenSlideError as error:
            raise _refusal(path, str(error)) from error
        self._slide.set_cache(_shared_cache())
        properties = _properties(self._slide)
        sizes = self._slide.level_dimensions
        self._downsamples = self._slide.level_downsamples
        hints = from_openslide(properties)
        self.info = SlideInfo(
            vendor=properties.get("openslide.vendor", "openslide"),
            levels=tuple(Level(w, h, exact_downsample(*sizes[0], w, h)) for w, h in sizes),
            mpp_hints=hints,
            objective_power=hints.objective_power,
            associated=tuple(sorted(self._slide.associated_images)),
            properties=properties,
        )
        self._fd = -1
        self._pages: list[TiledPage | None] | None = None
        self._why = [_UNTESTED] * len(sizes)
        self._lock = threading.Lock()

    @property
    def direct(self) -> tuple[str, ...]:
        """Per level: '' where the direct path is in use, else why not."""
        return tuple(self._why)

    def read(self, level: int, x: int, y: int, w: int, h: int) -> Image:
        """Pixels (h, w, 3); see :class:`hwsi.slide.backend.Backend`."""
        page = self._direct_page(level)
        if page is not None:
            try:
                return page.read(self._fd, x, y, w, h)
            except MissingTile:
                pass  # OpenSlide knows what stands there: nothing, or the level above enlarged
            except ValueError as error:
                raise corrupt(self._path, error) from error
            except OSError as error:
                raise unreadable(self._path, error) from error
        return self.read_by_openslide(level, x, y, w, h)

    def read_by_openslide(self, level: int, x: int, y: int, w: int, h: int) -> Image:
        """The same by OpenSlide itself."""
        downsample = self._downsamples[level]
        try:
            rgba = self._slide.read_region((round(x * downsample), round(y * downsample)), level, (w, h))
        except openslide.OpenSlideError as error:
            raise corrupt(self._path, error) from error
        return over_white(np.asarray(rgba))

    def close(self) -> None:
        """Give all handles back."""
        self._slide.close()
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _direct_page(self, level: int) -> TiledPage | None:
        if self._why[level] == "":
            return self._pages[level] if self._pages is not None else None
        if self._why[level] != _UNTESTED:
            return None
        with self._lock:
            if self._pages is None:
                self._pages = self._find_pages()
            page = self._pages[level]
            if self._why[level] == _UNTESTED:
                self._why[level] = "no tiled page of this size" if page is None else self._compare(level, page)
            return page if self._why[level] == "" else None

    def _find_pages(self) -> list[TiledPage | None]:
        from hwsi.slide.tiff_file import BROKEN, open_tiff, pages_of

        none: list[TiledPage | None] = [None] * len(self.info.levels)
        if self.info.vendor not in _DIRECT_VENDORS:
            self._why = [f"the tiles of {self.info.vendor} are not plain TIFF pages"] * len(none)
            return none
        pages = list(none)
        try:
            with open_tiff(self._path) as tif:
                tiled = [page for page in pages_of(tif) if page.is_tiled]
                for k, level in enumerate(self.info.levels):
                    fit = [p for p in tiled if (p.imagewidth, p.imagelength) == (level.width, level.height)]
                    if len(fit) == 1:
                        pages[k] = TiledPage(fit[0])
        except BROKEN as error:
            self._why = [f"tifffile cannot read the pages: {error}"] * len(none)
            return none
        try:
            self._fd = os.open(self._path, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))
        except OSError as error:
            raise unreadable(self._path, error) from error
        return pages

    def _compare(self, level: int, page: TiledPage) -> str:
        """'' if a telling tile is the same both ways, else the reason why the direct path is not used."""
        index = self._telling_tile(level, page)
        x, y = index % page.cols * page.tile_w, index // page.cols * page.tile_h
        w, h = min(page.tile_w, page.width - x), min(page.tile_h, page.height - y)
        try:
            ours = page.read(self._fd, x, y, w, h)
        except (MissingTile, ValueError) as error:
            return f"a tile cannot be decoded directly: {error!r}"
        theirs = self.read_by_openslide(level, x, y, w, h)
        worst = int(np.abs(ours.astype(np.int16) - theirs).max())
        return "" if worst == 0 else f"differs from OpenSlide by up to {worst}"

    def _telling_tile(self, level: int, page: TiledPage) -> int:
        """The tile with most bytes among those that OpenSlide can be asked for without a fraction of a pixel."""
        downsample = self._downsamples[level]

        def whole(n: int, step: int) -> np.ndarray[Any, np.dtype[np.bool_]]:
            at0 = np.arange(n) * step * downsample
            return np.asarray(np.abs(np.round(at0) / downsample - np.arange(n) * step) < 1e-9)

        exact = whole(page.rows, page.tile_h)[:, None] & whole(page.cols, page.tile_w)[None, :]
        counts = page.counts[: page.rows * page.cols].reshape(page.rows, page.cols)
        return int(np.where(exact, counts, -1).argmax())


def _properties(slide: openslide.OpenSlide) -> dict[str, str]:
    """All properties whose names are text; a name in another encoding than UTF-8 is listed, but not found again."""
    found = {}
    for name in slide.properties:
        with suppress(KeyError):
            found[name] = slide.properties[name]
    return found


def _refusal(path: Path, message: str) -> HwsiError:
    message = message.replace(str(path), path.name)
    low = message.lower()
    if "associated image" in low:
        return HwsiError(
            Reason.SLIDE_UNSUPPORTED,
            f"{path.name} holds only a label or overview image, no slide: {message}",
            "hand in the file of the same series that holds the pyramid (ImageType VOLUME)",
        )
    if low.startswith("unsupported") or "not supported" in low:
        return HwsiError(
            Reason.SLIDE_UNSUPPORTED,
            f"{path.name} is stored in a way that no reader here knows: {message}",
            "save it as a tiled pyramidal TIFF with JPEG, JPEG 2000 or deflate compression",
        )
    return HwsiError(
        Reason.SLIDE_CORRUPT,
        f"{path.name} cannot be opened: {message}",
        "the file is damaged or was copied only in part: copy it again from the scanner or archive",
    )
