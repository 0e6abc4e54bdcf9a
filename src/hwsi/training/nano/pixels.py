"""Step 1: patches of a cohort with their truth, as arrays that training maps into memory.

- A slide gives at most ``per_slide`` patches. Rare findings (mitoses, necrosis, keratin, mucin, artefacts) are drawn
  more often than stroma, since an encoder that has seen three mitoses does not know them.
- Patches are read from the written slide, so they carry its JPEG and its scanner.
- ``patches.npy`` (P, 256, 256, 3) uint8, ``targets.npz`` one row per patch, ``done.json`` written last.

Run: ``python -m hwsi.training.nano.pixels COHORT OUT --per-slide 48``
"""

import argparse
import json
import os
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hwsi.slide import open_slide
from hwsi.training.nano.cohort import CohortSlide, read_cohort

Rows = dict[str, NDArray[Any]]
_RARE = {"mitoses": 3.0, "invaded_vessels": 6.0, "necrosis": 1.5, "mucin": 1.5}


def choose(table: Rows, per_slide: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Rows of a patch table to train on: tissue only, rare findings more often."""
    weight = np.where(table["tissue"] >= 0.1, 1.0, 0.0)
    for name, factor in _RARE.items():
        weight *= np.where(table[name] > 0, factor, 1.0)
    weight *= np.where(np.asarray(table["artefact"]).max(1) > 0.2, 1.5, 1.0)
    weight *= np.where(table["lesion"] > 0.2, 1.5, 1.0)
    n = min(per_slide, int((weight > 0).sum()))
    return np.sort(rng.choice(len(weight), n, replace=False, p=weight / weight.sum())) if n else np.zeros(0, np.int64)


def _collect(slide: CohortSlide, per_slide: int) -> tuple[NDArray[np.uint8], Rows]:
    table = slide.patches()
    rows = choose(table, per_slide, np.random.default_rng([slide.seed, 31]))
    record = slide.truth()
    size0 = record["patch_um"] / record["mpp"]
    with open_slide(slide.path) as opened:
        pixels = [
            opened.read(round(col * size0), round(row * size0), 256, record["patch_um"] / 256)
            for row, col in table["grid"][rows]
        ]
    picked = {name: value[rows] for name, value in table.items() if len(value) == len(table["grid"])}
    picked["patient"] = np.full(len(rows), slide.patient)
    picked["diagnosis"] = np.full(len(rows), record["diagnosis"])
    return np.stack(pixels) if pixels else np.zeros((0, 256, 256, 3), np.uint8), picked


def collect(cohort: Path, out: Path, per_slide: int, workers: int) -> int:
    """Write the arrays of all slides of ``cohort``; returns the number of patches."""
    slides = read_cohort(cohort)
    out.mkdir(parents=True, exist_ok=True)
    images: list[NDArray[np.uint8]] = []
    tables: list[Rows] = []
    with ProcessPoolExecutor(workers) as pool:
        for pixels, rows in pool.map(_collect, slides, [per_slide] * len(slides), chunksize=4):
            images.append(pixels)
            tables.append(rows)
    total = sum(map(len, images))
    stored = np.lib.format.open_memmap(out / "patches.npy", "w+", np.uint8, (total, 256, 256, 3))
    at = 0
    for pixels in images:
        stored[at : at + len(pixels)] = pixels
        at += len(pixels)
    stored.flush()
    np.savez(out / "targets.npz", **{k: np.concatenate([t[k] for t in tables]) for k in tables[0]})  # type: ignore[arg-type]
    done: dict[str, Any] = {"cohort": cohort.name, "slides": len(slides), "patches": total}
    (out / "done.json").write_text(json.dumps(done))
    return total


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("cohort", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--per-slide", type=int, default=48)
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    args = parser.parse_args()
    print(f"{collect(args.cohort, args.out, args.per_slide, args.workers)} patches", flush=True)


if __name__ == "__main__":
    main()
