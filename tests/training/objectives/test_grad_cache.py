"""The gradient of a batch in pieces is that of the whole, dropout and all."""

import pytest
import torch
from batches import raw_slide, unit
from torch import Tensor, nn

from hwsi.training.objectives.contrast import AlignBatch
from hwsi.training.objectives.grad_cache import cached_backward
from hwsi.training.objectives.hca import hca_loss


class Tower(nn.Module):
    def __init__(self, dropout: float) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Dropout(dropout), nn.Linear(16, 8)).double()
        self.log_temperature = nn.Parameter(torch.tensor(-1.0, dtype=torch.float64))

    def represent(self, slides: list[int]) -> dict[str, Tensor]:
        raw = AlignBatch.join([raw_slide(i) for i in slides]).tensors()
        return unit({k: self.net(x) if k.startswith("z.") else x for k, x in raw.items()})

    def loss(self, parts: list[dict[str, Tensor]]) -> tuple[Tensor, dict[str, Tensor]]:
        return hca_loss(AlignBatch.join(parts), temperature=self.log_temperature.exp())


def grads(tower: Tower) -> list[Tensor]:
    found = [p.grad.clone() for p in tower.parameters()]
    tower.zero_grad()
    return found


@pytest.mark.parametrize("dropout", [0.0, 0.4])
def test_equal_to_the_whole_batch(dropout: float) -> None:
    torch.manual_seed(0)
    tower = Tower(dropout)
    chunks = [[0, 1], [2], [3, 4]]
    torch.manual_seed(7)
    loss, _ = tower.loss([tower.represent(c) for c in chunks])
    after = torch.rand(1)
    loss.backward()
    expected = grads(tower)
    torch.manual_seed(7)
    cached, parts = cached_backward(chunks, tower.represent, tower.loss)
    assert torch.equal(torch.rand(1), after), "what is drawn next must not hang on the replay"
    assert cached.item() == pytest.approx(loss.item(), rel=1e-12)
    assert "contrast_cell" in parts
    for a, b in zip(grads(tower), expected, strict=True):
        assert torch.allclose(a, b, rtol=1e-9, atol=1e-12)


def test_one_chunk_is_the_plain_way() -> None:
    tower = Tower(0.0)
    tower.loss([tower.represent([0, 1, 2])])[0].backward()
    expected = grads(tower)
    cached_backward([[0, 1, 2]], tower.represent, tower.loss)
    for a, b in zip(grads(tower), expected, strict=True):
        assert torch.allclose(a, b, rtol=1e-9, atol=1e-12)
