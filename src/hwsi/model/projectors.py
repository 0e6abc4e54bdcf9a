"""Projectors: the features of each scale become tokens of the language model's width.

- One two-layer MLP per scale, with a LayerNorm before it, since encoders differ in the scale of their
  features.
- A centre is embedded in millimetres (Fourier features), so that a slide's resolution does not matter.

Notation: D width of the language model.
"""

import math

import torch
from torch import Tensor, nn

from hwsi.model.config import HwsiVisualConfig


class FourierPlace(nn.Module):
    """Sines and cosines of a centre at octaves of ``fourier_min_mm``, projected to D."""

    def __init__(self, config: HwsiVisualConfig) -> None:
        super().__init__()
        self.bands = config.fourier_bands
        self.min_mm = config.fourier_min_mm
        self.out = nn.Linear(4 * config.fourier_bands, config.width)

    def forward(self, mm: Tensor) -> Tensor:
        """``mm (..., 2)`` float -> ``(..., D)``."""
        # computed here, in float32: a buffer would be stored, cast to half precision, or lost on a meta
        # device
        waves = self.min_mm * 2.0 ** torch.arange(self.bands, device=mm.device, dtype=torch.float32)
        phase = (2 * math.pi * mm.float()[..., None] / waves).flatten(-2)
        return self.out(torch.cat([phase.sin(), phase.cos()], -1).to(self.out.weight.dtype))  # type: ignore[no-any-return]


class Projector(nn.Module):
    """LayerNorm, two layers: one scale's features to the language model's width."""

    def __init__(self, *, dim: int, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.up = nn.Linear(dim, width)
        self.act = nn.GELU()
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """``(..., dim)`` -> ``(..., D)``."""
        return self.out(self.act(self.up(self.norm(x))))  # type: ignore[no-any-return]
