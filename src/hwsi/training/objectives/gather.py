"""One contrastive batch out of the rows of all ranks, with the gradient that one process would have.

- Every rank computes the loss of the whole batch. The way back adds what all ranks ask of a row, so after the mean
  over ranks (:func:`average_gradients`, or DistributedDataParallel) each parameter has the gradient of one process.
- Ranks may have different numbers of rows, and rows of different lengths: they are padded on the way.
- Without a process group all of this is the identity.

Notation: W ranks.
"""

from collections.abc import Iterable, Sequence

import torch
import torch.distributed as dist
from torch import Tensor, nn


def world_size() -> int:
    """Ranks that compute together; 1 without a process group."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """Number of this process among them."""
    return dist.get_rank() if world_size() > 1 else 0


class _Gather(torch.autograd.Function):
    """Rows of equal shape of all ranks, concatenated; backward adds over ranks and takes the own part."""

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        found = [torch.empty_like(x) for _ in range(world_size())]
        dist.all_gather(found, x.contiguous())
        return torch.cat(found)

    @staticmethod
    def setup_context(ctx: torch.autograd.function.FunctionCtx, inputs: tuple[Tensor], output: Tensor) -> None:
        pass

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, *grads: Tensor) -> Tensor:
        whole = grads[0].contiguous()
        dist.all_reduce(whole)
        return whole.chunk(world_size())[rank()]


def gather(x: Tensor, fill: float = 0) -> Tensor:
    """Rows of all ranks in order of the ranks, with gradient.

    Args:
        x: (n, ...) of any type; n and the other sizes may differ between ranks.
        fill: what shorter rows are padded with.

    Returns:
        (sum of n, ...), of the largest sizes; the same on every rank.
    """
    if world_size() == 1:
        return x
    shapes = _shapes(x)
    most = torch.stack(shapes).amax(0).tolist()
    # torch pads the last axis first
    pad = [n for have, want in zip(reversed(x.shape), reversed(most), strict=True) for n in (0, want - have)]
    even = nn.functional.pad(x.to(torch.uint8) if x.dtype == torch.bool else x, pad, value=fill)
    rows: Tensor = _Gather.apply(even) if x.is_floating_point() else _Gather.forward(even)  # type: ignore[no-untyped-call]
    kept = torch.cat([torch.arange(int(s[0]), device=x.device) + i * most[0] for i, s in enumerate(shapes)])
    return rows[kept].to(x.dtype)


def _shapes(x: Tensor) -> list[Tensor]:
    own = torch.tensor(x.shape, device=x.device)
    found = [torch.empty_like(own) for _ in range(world_size())]
    dist.all_gather(found, own)
    return found


@torch.no_grad()
def average_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Replace each gradient by its mean over ranks; a parameter that this rank did not use counts as zero.

    Every rank must hand in the same parameters in the same order.
    """
    if world_size() == 1:
        return
    for group in _by_type([p for p in parameters if p.requires_grad]):
        flat = torch.cat([(torch.zeros_like(p) if p.grad is None else p.grad).flatten() for p in group])
        dist.all_reduce(flat)
        flat /= world_size()
        for p, grad in zip(group, torch.split(flat, [p.numel() for p in group]), strict=True):
            p.grad = grad.view_as(p).clone()


def _by_type(parameters: Sequence[nn.Parameter]) -> list[list[nn.Parameter]]:
    kinds: dict[tuple[torch.dtype, torch.device], list[nn.Parameter]] = {}
    for p in parameters:
        kinds.setdefault((p.dtype, p.device), []).append(p)
    return list(kinds.values())
