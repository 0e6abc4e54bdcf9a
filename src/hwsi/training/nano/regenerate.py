"""Thousands of slides without their pixels: each is drawn from its seed, encoded, and its pixels are deleted.

- Truth, patches and cells stay in the cohort's folder, features in the job; together about 2 MB a slide.
- What is whole is skipped, so a run that was stopped goes on. Slides side by side, one process and one thread each.
- With the runs of a patch and a cell encoder these encode; without, the packaged ones.

Run: ``python -m hwsi.training.nano.regenerate COHORT JOB --slides 2000 --edition 2 --encoders PATCH_RUN CELL_RUN``
"""

import argparse
import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING

from hwsi.phantom.sampling import SIDES_UM, draw_plans
from hwsi.phantom.second.cohort import first_edition, regenerate, write_manifest
from hwsi.phantom.second.drafts import Draft, draw_drafts

if TYPE_CHECKING:
    from hwsi.encoding.stack import Stack

_stack: "Stack | None" = None


def _start(encoders: tuple[Path, Path] | None) -> None:
    """Load the encoders, once per process."""
    import torch

    from hwsi.encoding import load_stack
    from hwsi.presets import load_preset
    from hwsi.training.nano.features import stack_of

    global _stack
    torch.set_num_threads(1)
    _stack = stack_of(*encoders) if encoders else load_stack(load_preset("nano"), "cpu")


def _one(folder: Path, job: Path, draft: Draft, split: str) -> float:
    """Seconds spent on a slide; 0 if it was whole."""
    from hwsi.encoding import encode_to_file

    def encode(path: Path) -> None:
        encode_to_file(path, job, preset="nano", stack=_stack)

    started = time.monotonic()
    done = regenerate(folder, draft, split, encode, job / "features" / f"{draft.plan.slide_id}.h5")
    return time.monotonic() - started if done else 0.0


def regenerate_cohort(
    folder: Path, job: Path, slides: int, seed: int, *, split: str = "train", edition: int = 1, axis: str = "",
    workers: int = 1, sides_um: tuple[int, int] = SIDES_UM, encoders: tuple[Path, Path] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> float:  # fmt: skip
    """Have truth and features of a cohort, and no pixels.

    Args:
        folder: of the cohort. job: features come to ``job/features``.
        slides, seed, split: as of the edition's cohort; axis: of shift, second edition only.
        encoders: weights of a patch and a cell encoder, instead of the packaged ones.
        progress: called with (slides done, slides).

    Returns:
        Mean seconds of one worker for a slide that had to be made; nan if none had.
    """
    drafts: Sequence[Draft] = (
        draw_drafts(slides, seed, split, axis, sides_um)
        if edition == 2
        else first_edition(draw_plans(slides, seed, split, sides_um))
    )
    write_manifest(folder, drafts, split)
    say = progress or (lambda done, total: None)
    spent: list[float] = []
    with ProcessPoolExecutor(
        workers, mp_context=get_context("spawn"), initializer=_start, initargs=(encoders,)
    ) as pool:
        jobs = [pool.submit(_one, folder, job, draft, split) for draft in drafts]
        for done, finished in enumerate(as_completed(jobs), start=1):
            spent.append(finished.result())
            say(done, len(drafts))
    made = [s for s in spent if s > 0]
    return sum(made) / len(made) if made else float("nan")


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("cohort", type=Path)
    parser.add_argument("job", type=Path)
    parser.add_argument("--slides", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--split", default="train")
    parser.add_argument("--edition", type=int, choices=(1, 2), default=1)
    parser.add_argument("--encoders", type=Path, nargs=2, metavar=("PATCH_RUN", "CELL_RUN"))
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    args = parser.parse_args()
    weights = None
    if args.encoders:
        weights = (args.encoders[0] / "patch.safetensors", args.encoders[1] / "cell.safetensors")
    seconds = regenerate_cohort(
        args.cohort, args.job, args.slides, args.seed, split=args.split, edition=args.edition, workers=args.workers,
        encoders=weights, progress=lambda done, n: print(f"{done}/{n}", flush=True),
    )  # fmt: skip
    print(f"{seconds:.1f} s a slide", flush=True)


if __name__ == "__main__":
    main()
