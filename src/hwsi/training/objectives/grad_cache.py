"""A contrastive batch larger than memory, with exactly the gradient of the whole (GradCache, arXiv:2101.06983).

- First every chunk is represented without a graph; then the loss of all representations gives the gradient of each;
  then each chunk is represented again, with a graph, and its gradient flows on. Memory is that of one chunk.
- Random state is replayed, so dropout falls on the same units in both passes.
- What a forward pass changes in a module (running means) would change twice: use no such layers.
"""

from collections.abc import Callable, Sequence
from typing import TypeVar

import torch
from torch import Tensor

Item = TypeVar("Item")
Told = TypeVar("Told")
Rows = dict[str, Tensor]


class _RandomState:
    """Generators of the CPU and of the current CUDA device at one moment."""

    def __init__(self) -> None:
        self._cpu = torch.get_rng_state()
        self._cuda = torch.cuda.get_rng_state() if torch.cuda.is_available() else None

    def restore(self) -> None:
        torch.set_rng_state(self._cpu)
        if self._cuda is not None:
            torch.cuda.set_rng_state(self._cuda)


def cached_backward(
    chunks: Sequence[Item],
    represent: Callable[[Item], Rows],
    loss_of: Callable[[list[Rows]], tuple[Tensor, Told]],
) -> tuple[Tensor, Told]:
    """Add the gradient of ``loss_of`` over all chunks to the parameters.

    Args:
        chunks: parts of the batch that fit into memory one at a time.
        represent: a chunk -> its representations by name; those of a floating type carry gradients.
        loss_of: the representations of all chunks -> loss (scalar) and what else is to be known. It may have
            parameters of its own, such as a temperature, and gather over ranks.

    Returns:
        What ``loss_of`` gave, the loss without its graph.
    """
    states, held = [], []
    for chunk in chunks:
        states.append(_RandomState())
        with torch.no_grad():
            rows = represent(chunk)
        held.append({k: x.detach().requires_grad_(x.is_floating_point()) for k, x in rows.items()})
    loss, told = loss_of(held)
    loss.backward()  # type: ignore[no-untyped-call]
    after = _RandomState()
    for chunk, state, asked in zip(chunks, states, held, strict=True):
        state.restore()
        rows = represent(chunk)
        flowing = [k for k, x in rows.items() if x.requires_grad and asked[k].grad is not None]
        if flowing:
            torch.autograd.backward([rows[k] for k in flowing], [asked[k].grad for k in flowing])
    after.restore()
    return loss.detach(), told
