"""TIFFs that OpenSlide does not read, or not whole: OME-TIFF with SubIFDs, striped and odd TIFFs.

- The largest image of the file is the slide, with all its levels; other images are only named.
- Tiled pages are read tile by tile (``tiles.py``); striped ones are decoded once and kept, up to a limit.
- Samples may be interleaved, in planes of one page, or one page each (axes YXS, SYX, CYX, YX); up to 16 bits.
"""

import os
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from hwsi.errors import HwsiError, Reason
from hwsi.slide.backend import Image, Level, SlideInfo, exact_downsample
from hwsi.slide.colour import Colour, UnknownPixels
from hwsi.slide.mpp import MppHints, from_imagej, from_ome, from_resolution, ome_objective_power
from hwsi.slide.tiff_file import BROKEN, open_tiff
from hwsi.slide.tiles import MissingTile, TiledPage, corrupt, unreadable

_MAX_STRIPED_PIXELS = 400_000_000


class TiffBackend:
    """See :class:`hwsi.slide.backend.Backend`."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._whole: dict[int, Image] = {}
        self.nbytes = 0
        try:
            with open_tiff(path) as tif:
                self._learn(tif)
        except HwsiError:
            raise
        except UnknownPixels as error:
            raise _unsupported(path, str(error), "save it as RGB") from error
        except BROKEN as error:
            raise HwsiError(
                Reason.SLIDE_CORRUPT,
                f"{path.name} starts like a TIFF, but its tables cannot be read: {error}",
                "the file is damaged or was copied only in part: copy it again",
            ) from error
        self._fd = os.open(path, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))
        self.direct = tuple("" if tiled else "not tiled" for tiled in self._tiled)

    def _learn(self, tif: Any) -> None:
        if not tif.series:
            raise ValueError("it names no image")
        series = [s for s in tif.series if _is_picture(s)]
        if not series:
            shapes = ", ".join(f"{s.axes} {s.shape} {s.dtype}" for s in tif.series)
            if any(len(_squeezed(s.axes, s.shape)[0].strip("S")) > 2 for s in tif.series):
                what = f"it holds a stack of planes, channels or times and no single RGB image ({shapes})"
                raise _unsupported(self._path, what, "export one plane as an RGB image, best a pyramidal TIFF")
            what = f"it holds no RGB or grey image of up to 16 bits ({shapes})"
            raise _unsupported(self._path, what, "export an RGB image (brightfield) as a pyramidal TIFF")
        main = max(series, key=lambda s: s.keyframe.imagewidth * s.keyframe.imagelength)
        self._tiled: list[list[TiledPage] | None] = []
        self._colours: list[Colour] = []
        self._keys: list[tuple[int, int]] = []  # of striped levels: series and level, to decode them later
        sizes: list[tuple[int, int]] = []
        for number, level in enumerate(main.levels):
            pages = list(level.pages)
            if any(page is None or page.parent is not tif for page in pages):
                raise _unsupported(self._path, "its image is spread over several files", "export it as one file")
            key = level.keyframe
            w, h = int(key.imagewidth), int(key.imagelength)
            if sizes and (w > sizes[-1][0] or h > sizes[-1][1]):
                break
            if not key.is_tiled and w * h > _MAX_STRIPED_PIXELS:
                what = f"it is not tiled and has {w} x {h} pixels, which would have to be held in memory"
                raise _unsupported(self._path, what, "save it as a tiled pyramidal TIFF")
            colour = Colour.of(key)
            if colour.kind == "grey" and "C" in _squeezed(level.axes, level.shape)[0]:
                colour = replace(colour, kind="rgb")  # three channels, each stored as grey
            sizes.append((w, h))
            self._colours.append(colour)
            self._keys.append((tif.series.index(main), number))
            # a TiffFrame shares its first page's tags; as a page of its own it can decode
            self._tiled.append([TiledPage(p.aspage()) for p in pages] if key.is_tiled else None)
        ome = tif.ome_metadata or ""
        x, y, unit = _resolution(main.keyframe)
        hints = from_ome(ome, sizes[0]) + from_imagej(x, y, tif.imagej_metadata or {}) + from_resolution(x, y, unit)
        power = ome_objective_power(ome)
        names = [s.name or f"image {k}" for k, s in enumerate(tif.series) if s is not main]
        self.info = SlideInfo(
            vendor="ome-tiff" if tif.is_ome else "tiff",
            levels=tuple(Level(w, h, exact_downsample(*sizes[0], w, h)) for w, h in sizes),
            mpp_hints=MppHints(hints, power),
            objective_power=power,
            associated=tuple(names),
        )

    def read(self, level: int, x: int, y: int, w: int, h: int) -> Image:
        """Pixels (h, w, 3); see :class:`hwsi.slide.backend.Backend`."""
        pages = self._tiled[level]
        if pages is None:
            # copied: a view would keep the whole level in memory, and its reader could write into it
            return self._striped(level)[y : y + h, x : x + w].copy()
        try:
            if len(pages) == 1:
                return self._sparse(pages[0], x, y, w, h)
            return np.stack([self._sparse(page, x, y, w, h)[..., 0] for page in pages], axis=2)
        except ValueError as error:
            raise corrupt(self._path, error) from error
        except OSError as error:
            raise unreadable(self._path, error) from error

    def _sparse(self, page: TiledPage, x: int, y: int, w: int, h: int) -> Image:
        try:
            return page.read(self._fd, x, y, w, h)
        except MissingTile:
            return _read_with_holes(page, self._fd, x, y, w, h)

    def _striped(self, level: int) -> Image:
        with self._lock:
            if level not in self._whole:
                number, depth = self._keys[level]
                try:
                    with open_tiff(self._path) as tif:
                        source: Any = tif.series[number].levels[depth]
                        samples = _samples_last(source.asarray(), source.axes)
                    self._whole[level] = self._colours[level].rgb(samples)
                except BROKEN as error:
                    raise corrupt(self._path, error) from error
                self.nbytes += self._whole[level].nbytes
            return self._whole[level]

    def close(self) -> None:
        """Give the handle and what was decoded back."""
        os.close(self._fd)
        self._whole.clear()


def _read_with_holes(page: TiledPage, fd: int, x: int, y: int, w: int, h: int) -> Image:
    """As :meth:`TiledPage.read`, white where the file has no tile (sparse pyramids leave background out)."""
    out = np.full((h, w, 3), 255, np.uint8)
    for top in range(y // page.tile_h * page.tile_h, y + h, page.tile_h):
        for left in range(x // page.tile_w * page.tile_w, x + w, page.tile_w):
            xa, xb = max(x, left), min(x + w, left + page.tile_w)
            ya, yb = max(y, top), min(y + h, top + page.tile_h)
            try:
                out[ya - y : yb - y, xa - x : xb - x] = page.read(fd, xa, ya, xb - xa, yb - ya)
            except MissingTile:
                continue
    return out


def _is_picture(series: Any) -> bool:
    """Whether a series is one RGB or grey image (and not a stack, a video, or a map of floats)."""
    axes, shape = _squeezed(series.axes, series.shape)
    samples = [n for axis, n in zip(axes, shape, strict=True) if axis not in "YX"]
    if np.dtype(series.dtype) not in (np.dtype(np.uint8), np.dtype(np.uint16), np.dtype(np.bool_)):
        return False
    return (
        axes in ("YX",) or (axes in ("YXS", "SYX") and samples[0] <= 5) or (axes in ("CYX", "YXC") and samples == [3])
    )


def _squeezed(axes: str, shape: tuple[int, ...]) -> tuple[str, tuple[int, ...]]:
    """Axes without those of length one (a small Y or X stays)."""
    kept = [(a, n) for a, n in zip(axes, shape, strict=True) if n != 1 or a in "YX"]
    return "".join(a for a, _ in kept), tuple(n for _, n in kept)


def _samples_last(array: Any, axes: str) -> Any:
    names, shape = _squeezed(axes, array.shape)
    array = array.reshape(shape)
    return np.moveaxis(array, 0, 2) if names in ("SYX", "CYX") else array


def _resolution(page: Any) -> tuple[float, float, str]:
    """Pixels per unit in x and y, and the unit as OpenSlide spells it; zeros if there is none."""

    def ratio(name: str) -> float:
        tag = page.tags.get(name)
        value = tag.value if tag is not None else (0, 1)
        return float(value[0] / value[1]) if isinstance(value, tuple) and value[1] else 0.0

    unit = page.tags.get("ResolutionUnit")
    name = {2: "inch", 3: "centimeter"}.get(int(unit.value) if unit is not None else 2, "none")
    return ratio("XResolution"), ratio("YResolution"), name


def _unsupported(path: Path, what: str, todo: str) -> HwsiError:
    return HwsiError(Reason.SLIDE_UNSUPPORTED, f"{path.name} cannot be shown: {what}", todo)
