"""Region encoder without weights: the mean of a region's patch vectors, of any width.

- For stacks whose patch encoder no published region encoder reads (the preset ``open``): a region is where its patches
  are, without any sense of how they lie.
- Absent patches are left out by the mask; a region without patches is zeros.

Notation: B regions, T patches of a region, D width.
"""

from pathlib import Path

import torch
from torch import Tensor, nn

from hwsi.encoders.cell_slide_cards import REGION_MEAN
from hwsi.errors import HwsiError, Reason


class RegionMean(nn.Module):
    """``encode``: patches (B, T, D), mask bool (B, T) -> (B, D); where the patches lie is not looked at."""

    spec = REGION_MEAN

    @torch.no_grad()
    def encode(self, patches: Tensor, mask: Tensor, row_col: Tensor) -> Tensor:
        """See the protocol; ``row_col`` is taken because all region encoders take it."""
        total = patches.masked_fill(~mask[..., None], 0).sum(1)
        return total / mask.sum(1, keepdim=True).clamp(min=1)


def build(weights: Path | None) -> RegionMean:
    """The encoder. Raises HwsiError(WEIGHTS_MISMATCH) for a file: there is nothing to load."""
    if weights is not None:
        raise HwsiError(Reason.WEIGHTS_MISMATCH, f"region-mean has no weights to take from {weights}", "hand in none")
    return RegionMean().eval()
