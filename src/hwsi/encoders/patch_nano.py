"""Patch encoder of the embedded preset: 256 px at 0.5 um/px to 192 numbers, 2.3 M parameters.

- A convolutional stem does what needs fine pixels (chromatin, mitoses) and hands 8 x 8 tokens of 16 um to four
  transformer blocks, which see the arrangement: four to five times cheaper than 16 x 16 tokens throughout.
- Mean and maximum of the tokens are both kept, and the maximum of the stem's 8-um map beside them: the mean is a
  density, the maxima find what is rare, such as one mitosis.
- Pixels are normalised inside, so uint8 goes in.
"""

from importlib.resources.abc import Traversable
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hwsi.encoders.nano import PATCH
from hwsi.encoders.vit import Block, init_weights
from hwsi.encoders.weights import initialise
from hwsi.errors import HwsiError, Reason

_SIDE = 256
_GRID = 8


class ConvBlock(nn.Module):
    """Depthwise 5 x 5, then a two-layer MLP per place, added to the input (after ConvNeXt, arXiv 2201.03545)."""

    def __init__(self, *, dim: int, hidden: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(dim, dim, 5, padding=2, groups=dim)
        self.norm = nn.GroupNorm(1, dim)
        self.into = nn.Conv2d(dim, hidden, 1)
        self.out = nn.Conv2d(hidden, dim, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, dim, H, W) -> the same."""
        y = F.gelu(self.into(self.norm(self.depthwise(x))), approximate="tanh")
        return x + self.out(y)  # type: ignore[no-any-return]


def _down(into: int, out: int, size: int, stride: int) -> nn.Sequential:
    conv = nn.Conv2d(into, out, size, stride=stride, padding=(size - 1) // 2 if size != stride else 0)
    return nn.Sequential(conv, nn.GroupNorm(1, out), nn.GELU(approximate="tanh"))


class PatchNano(nn.Module):
    """``forward``: uint8 (B, 256, 256, 3) RGB -> float32 (B, 192)."""

    spec = PATCH

    def __init__(self) -> None:
        super().__init__()
        self.fine = nn.Sequential(
            _down(3, 32, 4, 4),  # 2 um
            _down(32, 96, 3, 2),  # 4 um
            ConvBlock(dim=96, hidden=288),
            _down(96, 160, 3, 2),  # 8 um: about one nucleus
            ConvBlock(dim=160, hidden=480),
        )
        self.coarse = nn.Conv2d(160, 192, 3, stride=2, padding=1)  # 16 um
        self.position = nn.Parameter(torch.zeros(1, _GRID * _GRID, 192))
        self.blocks = nn.ModuleList(Block(dim=192, heads=3, hidden=576) for _ in range(4))
        self.norm = nn.LayerNorm(192)
        self.norm_fine = nn.LayerNorm(160)
        self.out = nn.Linear(192 + 192 + 160, 192)
        self.apply(init_weights)
        nn.init.trunc_normal_(self.position, std=0.02)

    def maps(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """uint8 (B, 256, 256, 3) -> tokens (B, 64, 192) of 16 um and fine map (B, 256, 160) of 8 um, row by row."""
        if images.dtype != torch.uint8 or images.shape[1:] != (_SIDE, _SIDE, 3):
            raise HwsiError(
                Reason.OPTION_INVALID,
                f"patch-nano takes uint8 (B, 256, 256, 3), not {images.dtype} {tuple(images.shape)}",
                "read patches of 256 px at 0.5 um/px",
            )
        # the permuted view is channels-last already, which is also the fast layout for these convolutions
        x = images.permute(0, 3, 1, 2).to(self.position.dtype)
        # white glass becomes -1 and dark chromatin goes up: background is a constant, not the strongest signal
        fine = self.fine(1 - x / 127.5)
        x = self.coarse(fine).flatten(2).transpose(1, 2) + self.position
        for block in self.blocks:
            x = block(x)
        return self.norm(x), self.norm_fine(fine.flatten(2).transpose(1, 2))

    def forward(self, images: Tensor) -> Tensor:
        """uint8 (B, 256, 256, 3) -> (B, 192)."""
        x, fine = self.maps(images)
        return self.out(torch.cat([x.mean(1), x.amax(1), fine.amax(1)], dim=-1))  # type: ignore[no-any-return]

    @torch.no_grad()
    def encode(self, images: Tensor) -> Tensor:
        """:meth:`forward` without gradients, on the encoder's device."""
        return self(images.to(self.position.device))  # type: ignore[no-any-return]


def build(weights: Traversable | Path | None) -> PatchNano:
    """The encoder with the weights of a file, or with seeded random ones."""
    return initialise(PatchNano, weights)
