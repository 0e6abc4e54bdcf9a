"""Matrix products on CPUs by oneDNN, where PyTorch would ask MKL.

- PyTorch multiplies float32 matrices by MKL, which doesn't use AVX-512 on processors that are not Intel's: on an AMD
  EPYC of 2025, 92 against 205 GFLOP/s a core. oneDNN comes with PyTorch too and knows no makers.
- The same kernel on every CPU, not the faster of two as measured: equal input gives equal bytes.
- ``mkldnn::_linear_pointwise`` is what ``torch.compile`` calls on CPUs. It has no gradient: with gradients, on a GPU,
  in other precisions, and in a PyTorch without it, a layer is ``nn.Linear``.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

_BUILT_IN = torch._C._has_mkldnn and hasattr(torch.ops.mkldnn, "_linear_pointwise")


class Linear(nn.Linear):
    """``nn.Linear``, for inference by oneDNN."""

    def forward(self, x: Tensor) -> Tensor:
        """(..., in) -> (..., out)."""
        if self._serves(x):
            return torch.ops.mkldnn._linear_pointwise(x, self.weight, self.bias, "none", [], "")  # type: ignore[no-any-return]
        return super().forward(x)

    def gelu(self, x: Tensor) -> Tensor:
        """(..., in) -> (..., out), the exact GELU of the layer's output, while that is in the cache."""
        if self._serves(x):
            # "none" is GELU's approximation
            return torch.ops.mkldnn._linear_pointwise(x, self.weight, self.bias, "gelu", [], "none")  # type: ignore[no-any-return]
        return F.gelu(super().forward(x))

    def _serves(self, x: Tensor) -> bool:
        return (
            _BUILT_IN
            and x.device.type == "cpu"
            and x.dtype == self.weight.dtype == torch.float32
            and x.numel() > 0
            and bool(torch.backends.mkldnn.enabled)
            and not torch.is_grad_enabled()
        )
