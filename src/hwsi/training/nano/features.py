"""Between steps 3 and 4: the feature files of a cohort, by the same code that encodes a user's slide.

Slides that are whole are skipped, so a run that was stopped goes on. Region and slide vectors in these files come from
untrained encoders: step 4 trains those and does not read them.

Run: ``python -m hwsi.training.nano.features COHORT PATCH_RUN CELL_RUN OUT``
"""

import argparse
import os
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from hwsi.encoders import cell_nano, patch_nano, region_nano, slide_nano
from hwsi.encoders.weights import sha256
from hwsi.encoding import encode_slide
from hwsi.encoding.stack import Stack
from hwsi.training.nano.cohort import read_cohort

_stack: Stack | None = None


def stack_of(patch: Path, cell: Path) -> Stack:
    """Trained patch and cell encoders, with untrained region and slide encoders above them."""
    return Stack(
        cell=cell_nano.build(cell),
        patch=patch_nano.build(patch),
        region=region_nano.build(None),
        slide=slide_nano.build(None),
        weights_sha256={"cell-nano": sha256(cell), "patch-nano": sha256(patch)},
    )


def _start(patch: Path, cell: Path) -> None:
    """Load the encoders, once per process."""
    import torch

    global _stack
    torch.set_num_threads(1)  # one process per core: slides side by side beat threads inside one
    _stack = stack_of(patch, cell)


def _encode(path: Path, out: Path) -> str:
    encode_slide(path, preset="nano", out=out, stack=_stack)
    return path.stem


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    for name in ("cohort", "patch_run", "cell_run", "out"):
        parser.add_argument(name, type=Path)
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    args = parser.parse_args()
    weights = (args.patch_run / "patch.safetensors", args.cell_run / "cell.safetensors")
    slides = [s.path for s in read_cohort(args.cohort)]
    with ProcessPoolExecutor(args.workers, initializer=_start, initargs=weights) as pool:
        for n, name in enumerate(pool.map(_encode, slides, [args.out] * len(slides)), start=1):
            print(f"{n}/{len(slides)} {name}", flush=True)


if __name__ == "__main__":
    main()
