"""One rank: its share of the slides (ragged), the loss of all, gradients averaged; rank 0 writes them down."""

import sys

import torch
import torch.distributed as dist
from batches import raw_slide, unit
from torch import Tensor, nn

from hwsi.training.objectives.contrast import FILL, AlignBatch
from hwsi.training.objectives.gather import average_gradients, gather, rank, world_size
from hwsi.training.objectives.grad_cache import cached_backward
from hwsi.training.objectives.hca import hca_loss


class Tower(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.project = nn.Parameter(torch.randn(8, 8, dtype=torch.float64))
        self.unused = nn.Parameter(torch.zeros(2, dtype=torch.float64))
        self.temperature = nn.Parameter(torch.tensor(0.2, dtype=torch.float64))

    def represent(self, slides: list[int]) -> dict[str, Tensor]:
        raw = AlignBatch.join([raw_slide(i) for i in slides]).tensors()
        return unit(raw, self.project)

    def loss(self, parts: list[dict[str, Tensor]]) -> tuple[Tensor, dict[str, Tensor]]:
        own = AlignBatch.join(parts).tensors()
        whole = {k: gather(x, FILL.get(k.partition(".")[0], 0)) for k, x in own.items()}
        return hca_loss(AlignBatch.join([whole]), temperature=self.temperature)


def result(shares: list[list[int]], cached: bool) -> dict[str, Tensor]:
    tower = Tower()
    own = shares[rank()]
    chunks = [own[:1], own[1:]]
    if cached:
        loss, _ = cached_backward(chunks, tower.represent, tower.loss)
    else:
        loss, _ = tower.loss([tower.represent(own)])
        loss.backward()
    average_gradients(tower.parameters())
    return {"loss": loss.detach(), "project": tower.project.grad, "temperature": tower.temperature.grad}


if __name__ == "__main__":
    dist.init_process_group("gloo")
    assert world_size() == 2
    found = {str(cached): result([[0, 1, 2], [3, 4]], cached) for cached in (False, True)}
    if rank() == 0:
        torch.save(found, sys.argv[1])
    dist.destroy_process_group()
