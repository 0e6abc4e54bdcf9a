"""Linear layers by 8-bit integers on CPUs: about twice the patches per second, for vectors that are nearly the same.

- Weights have one scale per output channel, made once. Inputs have one per token, made as they come: an image's vector
  doesn't depend on what else is in its batch, and a token with large numbers spoils no other.
- Norms, attention, convolutions and the sums between blocks stay float32.
- The kernel is oneDNN's, which ``torch.compile`` calls for its own 8-bit models: ``torch.ao`` and PyTorch's quantised
  dtypes are deprecated (pytorch/pytorch 184982), and torchao's layers are slower than float32 without a compiler.
- How near is near depends on the weights: :func:`agreement` tells, on images of one's own.

Source: LLM.int8 (arXiv 2208.07339) for the scales per token and channel, without its outlier path.
"""

from copy import deepcopy
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hwsi.encoders.base import PatchEncoder
from hwsi.encoders.onednn import Linear
from hwsi.errors import HwsiError, Reason

M = TypeVar("M", bound=nn.Module)

_MIDDLE = 128  # the 8-bit input that means zero: the fast kernels read bytes without a sign
_TINY = 1e-12  # keeps a row of zeros from being divided by zero


class Int8Linear(nn.Module):
    """A linear layer with its weights as int8; not trained, and float32 outside.

    Args:
        layer: whose weights are taken; it stays as it is.
    """

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__()
        weight = layer.weight.detach()
        self.in_features, self.out_features = layer.in_features, layer.out_features
        self.scale = (weight.abs().amax(1) / 127).clamp(min=_TINY)
        whole = (weight / self.scale[:, None]).round().to(torch.int8)
        self.packed = torch.ops.onednn.qlinear_prepack(whole, None)
        self.zero = torch.zeros(len(weight), dtype=torch.int32)
        self.bias = torch.zeros(len(weight)) if layer.bias is None else layer.bias.detach()

    def forward(self, x: Tensor) -> Tensor:
        """(..., in) -> (..., out)."""
        rows = x.reshape(-1, self.in_features)
        # amax and amin run twenty times as fast as aminmax along a dimension
        step = torch.maximum(rows.amax(1, keepdim=True), -rows.amin(1, keepdim=True)).div_(127).clamp_(min=_TINY)
        # in [1, 255], and cutting off after adding a half is rounding
        whole = torch.div(rows, step).add_(_MIDDLE + 0.5).to(torch.uint8)
        y = torch.ops.onednn.qlinear_pointwise(
            whole, 1.0, _MIDDLE, self.packed, self.scale, self.zero, None, 1.0, 0, torch.float32, "none", [], ""
        )
        return y.mul_(step).add_(self.bias).view(*x.shape[:-1], self.out_features)  # type: ignore[no-any-return]

    def gelu(self, x: Tensor) -> Tensor:
        """(..., in) -> (..., out), the exact GELU of the layer's output."""
        # in place: a fresh tensor of this size costs as much as the product
        return torch.ops.aten.gelu_(self(x))  # type: ignore[no-any-return]


def quantise(encoder: M) -> M:
    """An encoder whose linear layers are :class:`Int8Linear`; all its other tensors are those of ``encoder``.

    Args:
        encoder: in float32 on the CPU; it stays as it is.

    Raises:
        HwsiError: OPTION_INVALID on a GPU, in another precision, or on a CPU that has no instructions for it.
    """
    has = torch.cpu.get_capabilities()
    if not hasattr(torch.ops.onednn, "qlinear_pointwise") or not (has.get("avx512_vnni") or has.get("avx_vnni")):
        # without VNNI sums of products of bytes overflow unnoticed
        raise HwsiError(Reason.OPTION_INVALID, "this CPU has no 8-bit products (VNNI)", "run in float32")
    tensors = {id(t): t for t in (*encoder.parameters(), *encoder.buffers())}
    if any(t.device.type != "cpu" or (t.is_floating_point() and t.dtype != torch.float32) for t in tensors.values()):
        what = "8-bit layers are made from an encoder in float32 on the CPU"
        raise HwsiError(Reason.OPTION_INVALID, what, "build it with device 'cpu'")
    quantised = deepcopy(encoder, dict(tensors))
    for parent in list(quantised.modules()):
        for name, child in parent.named_children():
            # subclasses of others, such as that inside MultiheadAttention, are read, not called
            if isinstance(child, nn.Linear) and type(child) in (nn.Linear, Linear):
                setattr(parent, name, Int8Linear(child))
    return quantised


def agreement(encoder: PatchEncoder, other: PatchEncoder, images: Tensor) -> Tensor:
    """Cosine (B,) of what two encoders make of each of ``images`` uint8 (B, H, W, 3)."""
    return F.cosine_similarity(encoder.encode(images), other.encode(images), dim=-1)
