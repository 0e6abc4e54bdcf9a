"""Peak memory of ``encode`` on slides of growing size: it must not grow with them.

- Slides are pyramidal tiled TIFFs, written tile by tile: glass, and tissue in the middle that covers a given
  fraction. Every size has the real preset, its real encoders, and a process of its own.
- ``growth`` is what the largest slide takes beyond the smallest and beyond its own output; the target is at
  most 15 %.

    python benchmarks/encode_memory.py
    python benchmarks/encode_memory.py --sides 4096 16384 32768 --tissue-fraction 0.25
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

TILE = 256
MPP = 0.5
TARGET = 0.15

Image = NDArray[np.uint8]


def tissue_texture(seed: int = 0, side: int = 2048) -> Image:
    """Something like tissue (side, side, 3): eosin with fibres, nuclei of haematoxylin."""
    rng = np.random.default_rng(seed)
    fibres = cv2.GaussianBlur(rng.normal(size=(side, side)).astype(np.float32), (0, 0), 9, sigmaY=3)
    fibres /= fibres.std()
    optical = np.stack([0.1 + 0.02 * fibres, 0.45 + 0.1 * fibres, 0.2 + 0.04 * fibres], axis=-1)
    nuclei = np.zeros((side, side), np.float32)
    for x, y in rng.integers(0, side, (side * side // 1500, 2)).tolist():
        axes = (int(rng.integers(6, 10)), int(rng.integers(4, 7)))
        cv2.ellipse(nuclei, (x, y), axes, float(rng.uniform(0, 180)), 0, 360, float(rng.uniform(0.7, 1)), -1)
    nuclei = cv2.GaussianBlur(nuclei, (0, 0), 1.0)
    optical += nuclei[..., None] * np.array([0.55, 0.6, 0.25], np.float32)
    grain = rng.normal(0, 2, optical.shape)
    return np.clip(245 * np.exp(-optical) + grain, 0, 255).astype(np.uint8)


def write_slide(path: Path, side: int, tissue_fraction: float) -> None:
    """A square slide of ``side`` pixels at 0.5 um/px, with tissue in the middle; never whole in memory."""
    import tifffile

    texture = tissue_texture()
    # never less than a few whole regions, or the smallest slide would be easier and not only smaller
    glass = np.full((TILE, TILE, 3), 243, np.uint8)
    half = min(max(side * np.sqrt(tissue_fraction), 4096), side - 128) / 2

    def tiles(level: int) -> Iterator[Image]:
        factor = 4**level
        small = cv2.resize(texture, None, fx=1 / factor, fy=1 / factor, interpolation=cv2.INTER_AREA)
        count = -(-(side // factor) // TILE)
        for row in range(count):
            y = np.arange(row * TILE, (row + 1) * TILE)
            for column in range(count):
                x = np.arange(column * TILE, (column + 1) * TILE)
                y_in, x_in = (k[np.abs((k + 0.5) * factor - side / 2) < half] for k in (y, x))
                if not len(y_in) or not len(x_in):
                    yield glass
                    continue
                tile = glass.copy()
                tile[np.ix_(y_in - y[0], x_in - x[0])] = small[np.ix_(y_in % len(small), x_in % len(small))]
                yield tile

    with tifffile.TiffWriter(path, bigtiff=True) as file:
        level = 0
        while level == 0 or side // 4**level >= 2 * TILE:
            length = side // 4**level
            file.write(
                tiles(level),
                shape=(length, length, 3),
                dtype=np.uint8,
                tile=(TILE, TILE),
                photometric="rgb",
                compression="jpeg",
                compressionargs={"level": 85},
                subfiletype=1 if level else 0,
                resolution=(1e4 / (MPP * 4**level),) * 2,
                resolutionunit="CENTIMETER",
            )
            level += 1


def encode_once(slide: Path, job: Path, preset: str) -> None:
    """Encode, then print what it took as one line of JSON; runs in a process of its own."""
    import resource

    from hwsi.encoding import encode_to_file
    from hwsi.features import check_features

    path = encode_to_file(slide, job, preset=preset)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    check_features(path)

    import h5py

    with h5py.File(path) as file:
        print(
            json.dumps(
                {
                    "peak": peak,
                    "output": path.stat().st_size,
                    "regions": len(file["region/coords"]),
                    "patches": int((~file["patch/background"][:]).sum()),
                    "cells": len(file["cell/coords"]),
                }
            )
        )


def growth_of_memory(sides: list[int], tissue_fraction: float, preset: str) -> tuple[list[dict[str, int]], float]:
    """What each size took, printed as it comes, and what the last took beyond the first and beyond its own output."""
    print(f"{'side':>6} {'regions':>8} {'patches':>8} {'cells':>8} {'output MB':>10} {'peak MB':>8}")
    found = []
    with tempfile.TemporaryDirectory(prefix="hwsi-") as folder:
        for side in sides:
            slide = Path(folder) / f"side{side}.tiff"
            write_slide(slide, side, tissue_fraction)
            command = [sys.executable, __file__, "--preset", preset, "--once", str(slide), folder]
            told = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
            slide.unlink()
            found.append(told)
            print(
                f"{side:>6} {told['regions']:>8} {told['patches']:>8} {told['cells']:>8} "
                f"{told['output'] / 1e6:>10.1f} {told['peak'] / 1e6:>8.0f}",
                flush=True,
            )
    first, last = found[0], found[-1]
    return found, (last["peak"] - last["output"]) / first["peak"] - 1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sides", type=int, nargs="+", default=[4096, 16384, 32768], help="pixels")
    parser.add_argument("--tissue-fraction", type=float, default=0.06, help="of the slide's area")
    parser.add_argument("--preset", default="nano")
    parser.add_argument("--once", type=Path, nargs=2, metavar=("SLIDE", "JOB"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.once:
        encode_once(*args.once, preset=args.preset)
        return
    _, growth = growth_of_memory(sorted(args.sides), args.tissue_fraction, args.preset)
    print(f"growth beyond the output: {growth:+.1%} (target at most {TARGET:+.0%})")
    sys.exit(growth > TARGET)


if __name__ == "__main__":
    main()
