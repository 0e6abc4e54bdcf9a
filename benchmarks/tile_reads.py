"""Direct tile reads against OpenSlide, on the same file in the same run.

- Both readers take turns tile by tile group, so that a busy machine slows both; the ratio is that of the medians.
- The same pixels are compared: the largest difference must be 0.
- OpenSlide's cache is emptied between rounds (a new handle), so that it decodes too.

Usage: python benchmarks/tile_reads.py [SLIDE] [--tiles 400] [--rounds 7]
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import openslide
import tifffile

from hwsi.slide import Slide, open_slide

TILE = 256


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


def seconds(read: Callable[[int, int], object], corners: list[tuple[int, int]]) -> float:
    begin = time.perf_counter()
    for x, y in corners:
        read(x, y)
    return time.perf_counter() - begin


def compare(slide: Slide, path: Path, tiles: int, rounds: int) -> None:
    rng = np.random.default_rng(1)
    cols, rows = slide.width0 // TILE, slide.height0 // TILE
    chosen = rng.permutation(cols * rows)[:tiles]
    corners = [(int(k % cols) * TILE, int(k // cols) * TILE) for k in chosen]

    def ours(x: int, y: int) -> np.ndarray:
        return slide.read_level(0, x, y, TILE, TILE)

    ours(*corners[0])
    if slide.direct[0]:
        raise SystemExit(f"the direct path is not used: {slide.direct[0]}")
    worst, ratios, spent = 0, [], ([], [])
    for _ in range(rounds):
        with openslide.OpenSlide(str(path)) as other:

            def theirs(x: int, y: int, other: openslide.OpenSlide = other) -> np.ndarray:
                return np.asarray(other.read_region((x, y), 0, (TILE, TILE)))[..., :3]

            a = b = 0.0
            for k in range(0, len(corners), 50):
                a += seconds(ours, corners[k : k + 50])
                b += seconds(theirs, corners[k : k + 50])
            for x, y in corners[:: max(1, len(corners) // 40)]:
                worst = max(worst, int(np.abs(ours(x, y).astype(int) - theirs(x, y)).max()))
        ratios.append(b / a)
        spent[0].append(a)
        spent[1].append(b)
    n = len(corners)
    print(f"file              {path.name}, {slide.width0} x {slide.height0}, {n} tiles of {TILE} px, {rounds} rounds")
    print(f"direct            {n / np.median(spent[0]):8.0f} tiles/s")
    print(f"openslide         {n / np.median(spent[1]):8.0f} tiles/s")
    print(f"ratio             {np.median(ratios):8.2f} (median; {min(ratios):.2f} to {max(ratios):.2f}, wanted 3)")
    print(f"largest difference {worst:7d}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("slide", nargs="?", type=Path)
    parser.add_argument("--tiles", type=int, default=400)
    parser.add_argument("--rounds", type=int, default=7)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = args.slide or Path(folder) / "noise.tiff"
        if args.slide is None:
            write_slide(path)
        with open_slide(path) as slide:
            compare(slide, path, args.tiles, args.rounds)


if __name__ == "__main__":
    main()
