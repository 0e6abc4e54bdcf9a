"""One rank: gradients of a fixed batch shared by two, then a short run; rank 0 writes the gradients down."""

import sys
from pathlib import Path

import align_world as world
import torch
from torch import Tensor

from hwsi.training.objectives.gather import average_gradients, rank, world_size
from hwsi.training.stages.align import backward, make_ready, run_align
from hwsi.training.stages.align_config import AlignConfig, Contrast
from hwsi.training.stages.align_loop import ranks

SHARES = ([0, 1, 2, 3], [4, 7])


def settings(folder: Path) -> AlignConfig:
    job, reports = folder / "job", folder / "reports.jsonl"
    return world.config(folder / "model", job, reports, contrast=Contrast(slides=6, chunk=2, temperature=0.1), steps=3)


def gradients(config: AlignConfig, slides: list[int]) -> dict[str, Tensor]:
    ready = make_ready(config)
    ready.align.train()
    told = backward(ready.align, [ready.train[i] for i in slides], config, logged=False)
    learned = [p for p in ready.align.parameters() if p.requires_grad]
    average_gradients(learned)
    found = {n: p.grad for n, p in ready.align.named_parameters() if p.grad is not None}
    return found | {"loss": told["loss"]}


if __name__ == "__main__":
    folder, out = Path(sys.argv[1]), Path(sys.argv[2])
    config = settings(folder)
    with ranks("cpu"):
        assert world_size() == 2
        found = gradients(config, SHARES[rank()])
        if rank() == 0:
            torch.save(found, out / "gradients.pt")
        run_align(config, out / "run")
