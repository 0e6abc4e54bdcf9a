"""Tile reads against OpenSlide, tiffslide and the bare codecs, on the same file in the same run.

- ``raw`` is the least that reading a tile can cost: its bytes by ``pread``, decoded by tifffile's codecs, nothing
  checked; a read off the grid puts up to four of them together.
- All readers take turns, tile group by tile group, so that a busy machine slows them alike; ratios are medians of the
  rounds. Reads are on the grid of tiles and off it, from one thread and from two.
- The same pixels are compared: the largest difference to OpenSlide must be 0.
- OpenSlide's and tiffslide's caches are emptied between rounds (a new handle), so that they decode too. tiffslide takes
  part where it is installed.

Usage: python benchmarks/tile_reads.py [SLIDE] [--tiles 400] [--rounds 7]
"""

import argparse
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import openslide
import tifffile
from lines import Line

from hwsi.slide import Slide, open_slide

TILE = 256
GROUP = 20
RAW, OPENSLIDE = 0.85, 3.0
"""How many times as many tiles as the bare codecs and as OpenSlide we want to read on the grid."""

Read = Callable[[int, int], np.ndarray]
Corners = list[tuple[int, int]]


def write_slide(path: Path, side: int = 8192) -> None:
    """An 8192 x 8192 pyramid of tissue-like noise, JPEG q90 tiles of 256."""
    import cv2

    rng = np.random.default_rng(0)
    fine = cv2.GaussianBlur(rng.normal(0, 1, (side, side)).astype(np.float32), (0, 0), 2.0) * 5
    coarse = cv2.resize(
        rng.normal(0, 1, (side // 64,) * 2).astype(np.float32), (side, side), interpolation=cv2.INTER_CUBIC
    )
    stain = 1 / (1 + np.exp(-(fine + coarse)))
    glass, haematoxylin = np.array([238, 205, 225], np.float32), np.array([95, 60, 140], np.float32)
    pixels = np.empty((side, side, 3), np.uint8)
    for top in range(0, side, 1024):
        rows = stain[top : top + 1024, :, None]
        pixels[top : top + 1024] = glass * (1 - rows) + haematoxylin * rows
    with tifffile.TiffWriter(path, bigtiff=True) as tif:
        for level in range(3):
            tif.write(
                pixels[:: 4**level, :: 4**level],
                tile=(TILE, TILE),
                photometric="rgb",
                compression="jpeg",
                compressionargs={"level": 90},
                subfiletype=int(level > 0),
                resolution=(40000 / 4**level, 40000 / 4**level),
                resolutionunit="CENTIMETER",
                metadata=None,
            )


@contextmanager
def raw_reader(path: Path) -> Iterator[Read]:
    """The bare codecs, on the first page of a file."""
    with tifffile.TiffFile(path) as tif:
        page = tif.pages[0]
        offsets, counts, tables = page.dataoffsets, page.databytecounts, page.jpegtables
        cols, side = -(-page.imagewidth // TILE), (page.tilewidth, page.tilelength)
        if side != (TILE, TILE):
            raise SystemExit(f"its tiles are {side[0]} x {side[1]} px; this compares tiles of {TILE}")
        fd = os.open(path, os.O_RDONLY)

        def tile(index: int) -> np.ndarray:
            data = os.pread(fd, counts[index], offsets[index])
            return page.decode(data, index, jpegtables=tables)[0][0]

        def read(x: int, y: int) -> np.ndarray:
            row, col, down, right = y // TILE, x // TILE, y % TILE, x % TILE
            if not down and not right:
                return tile(row * cols + col)
            out = np.empty((TILE, TILE, 3), np.uint8)
            for r, (a, b) in enumerate(((down, TILE), (0, down))):
                for c, (left, end) in enumerate(((right, TILE), (0, right))):
                    if b > a and end > left:
                        got = tile((row + r) * cols + col + c)[a:b, left:end]
                        top, start = (0, TILE - down)[r], (0, TILE - right)[c]
                        out[top : top + b - a, start : start + end - left] = got
            return out

        try:
            yield read
        finally:
            os.close(fd)


@contextmanager
def library_reader(path: Path, name: str) -> Iterator[Read]:
    """OpenSlide or tiffslide, with a new handle."""
    if name == "openslide":
        slide = openslide.OpenSlide(str(path))
    else:
        from tiffslide import TiffSlide

        slide = TiffSlide(str(path))
    with slide:
        yield lambda x, y: np.asarray(slide.read_region((x, y), 0, (TILE, TILE)))[..., :3]


def seconds(read: Read, corners: Corners, pool: ThreadPoolExecutor | None) -> float:
    begin = time.perf_counter()
    if pool is None:
        for x, y in corners:
            read(x, y)
    else:
        for _ in pool.map(lambda at: read(*at), corners):
            pass
    return time.perf_counter() - begin


def rates(slide: Slide, path: Path, corners: Corners, threads: int, rounds: int) -> dict[str, list[float]]:
    """Tiles a second of every reader, round by round."""
    others = ["openslide", *(["tiffslide"] if find_spec("tiffslide") else [])]
    found: dict[str, list[float]] = {name: [] for name in ("direct", "raw", *others)}
    for _ in range(rounds):
        with ExitStack() as stack:
            pool = stack.enter_context(ThreadPoolExecutor(threads)) if threads > 1 else None
            readers: dict[str, Read] = {
                "direct": lambda x, y: slide.read_level(0, x, y, TILE, TILE),
                "raw": stack.enter_context(raw_reader(path)),
                **{name: stack.enter_context(library_reader(path, name)) for name in others},
            }
            spent = dict.fromkeys(readers, 0.0)
            order = list(readers)
            for k in range(0, len(corners), GROUP):
                for name in order:
                    spent[name] += seconds(readers[name], corners[k : k + GROUP], pool)
                order.append(order.pop(0))  # nobody is always the one who finds the bytes in the cache
        for name, sum_s in spent.items():
            found[name].append(len(corners) / sum_s)
    return found


def reading_lines(path: Path | None, *, tiles: int, rounds: int) -> list[Line]:
    """All readers on a slide (a made one by default), on the grid of tiles and off it, by one and two threads."""
    with tempfile.TemporaryDirectory() as folder:
        if path is None:
            path = Path(folder) / "noise.tiff"
            write_slide(path)
        with open_slide(path) as slide:
            return _compared(slide, path, tiles, rounds)


def _compared(slide: Slide, path: Path, tiles: int, rounds: int) -> list[Line]:
    rng = np.random.default_rng(1)
    cols, rows = slide.width0 // TILE - 1, slide.height0 // TILE - 1
    chosen = rng.permutation(cols * rows)[:tiles]
    aligned = [(int(k % cols) * TILE, int(k // cols) * TILE) for k in chosen]
    off = rng.integers(1, TILE, (len(chosen), 2)).tolist()
    shifted = [(x + dx, y + dy) for (x, y), (dx, dy) in zip(aligned, off, strict=True)]
    slide.read_level(0, 0, 0, TILE, TILE)
    if slide.direct[0]:
        raise SystemExit(f"the direct path is not used: {slide.direct[0]}")
    with library_reader(path, "openslide") as theirs:
        pairs = ((slide.read_level(0, x, y, TILE, TILE), theirs(x, y)) for x, y in (*aligned[::10], *shifted[::10]))
        worst = max(int(np.abs(ours.astype(int) - other).max()) for ours, other in pairs)
    lines = [Line("tiles, largest difference to OpenSlide", f"{worst}", wanted="0", met=worst == 0)]
    for place, corners in (("on the grid", aligned), ("off it", shifted)):
        for threads in (1, 2):
            found = rates(slide, path, corners, threads, rounds)
            ours = np.array(found.pop("direct"))
            of_raw = float(np.median(ours / found.pop("raw")))
            for name, rate in found.items():
                least = {"openslide": OPENSLIDE, "tiffslide": None}[name] if place == "on the grid" else None
                ratio = float(np.median(ours / rate))
                met = None if place != "on the grid" else of_raw >= RAW and (least is None or ratio >= least)
                lines.append(
                    Line(
                        f"tiles a second {place}, {threads} thread(s)", f"{np.median(ours):.0f}",
                        f"{name} {np.median(rate):.0f}", ratio, f"{of_raw:.2f} of the bare codecs",
                        f"{RAW} of the bare codecs" if place == "on the grid" else "", met,
                    )
                )  # fmt: skip
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("slide", nargs="?", type=Path)
    parser.add_argument("--tiles", type=int, default=400)
    parser.add_argument("--rounds", type=int, default=7)
    args = parser.parse_args()
    for line in reading_lines(args.slide, tiles=args.tiles, rounds=args.rounds):
        print("  ".join(cell for cell in line.cells() if cell))


if __name__ == "__main__":
    main()
