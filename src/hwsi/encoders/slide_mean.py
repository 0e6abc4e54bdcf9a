"""Slide encoder of the authors' release: the mean of the region vectors. It has no weights and any width.

- Padding is left out by the mask; a slide without regions is zeros, where the release leaves memory as it was.

Notation: B slides, R regions, D width.
"""

from pathlib import Path

import torch
from torch import Tensor, nn

from hwsi.encoders.cell_slide_cards import SLIDE_MEAN
from hwsi.errors import HwsiError, Reason


class SlideMean(nn.Module):
    """``encode``: regions (B, R, D), mask bool (B, R) -> (B, D); where the regions lie is not looked at."""

    spec = SLIDE_MEAN

    @torch.no_grad()
    def encode(self, regions: Tensor, mask: Tensor, centre_mm: Tensor) -> Tensor:
        """See the protocol; ``centre_mm`` is taken because all slide encoders take it."""
        total = regions.masked_fill(~mask[..., None], 0).sum(1)
        return total / mask.sum(1, keepdim=True).clamp(min=1)


def build(weights: Path | None) -> SlideMean:
    """The encoder. Raises HwsiError(WEIGHTS_MISMATCH) for a file: there is nothing to load."""
    if weights is not None:
        raise HwsiError(Reason.WEIGHTS_MISMATCH, f"slide-mean has no weights to take from {weights}", "hand in none")
    return SlideMean().eval()
