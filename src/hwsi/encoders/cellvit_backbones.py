"""The two Vision Transformers that CellViT reads tissue with: HIPT's ViT-S/16 and the image encoder of SAM.

- Both give the tokens of four depths as maps, before any final norm; CellViT's decoders start from them.
- Parameters have the names of the published checkpoints, so that these load without a table.
- Sources: DINO (arXiv:2104.14294), HIPT (arXiv:2206.02647), Segment Anything (arXiv:2304.02643), ViTDet
  (arXiv:2203.16527) for windows and relative positions.

Notation: B images, D width, h, w the grid of tokens of 16 px, N = h w, H heads.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hwsi.encoders.onednn import Linear
from hwsi.encoders.vit_plain import PatchEmbedding, PlainViT

PATCH_PX = 16
_EPS = 1e-6


class Stages(NamedTuple):
    """What a backbone sees: ``summary`` (B, S) of the image, ``maps`` four times (B, D, h, w) from shallow to deep."""

    summary: Tensor
    maps: tuple[Tensor, ...]


class DinoBackbone(PlainViT):
    """The plain ViT/16 of DINO with positions for 224 px; a linear ``head`` on its class token says which organ."""

    def __init__(self, *, dim: int, depth: int, heads: int, taps: tuple[int, ...], classes: int) -> None:
        super().__init__(
            image=224, patch=PATCH_PX, dim=dim, depth=depth, heads=heads, hidden=4 * dim, stretch="offset", eps=_EPS
        )
        self.taps = taps
        self.head = nn.Linear(dim, classes)

    def stages(self, images: Tensor) -> Stages:
        """Normalised (B, 3, 16 h, 16 w) -> logits (B, classes) of the organ, and maps."""
        rows, cols = images.shape[-2] // PATCH_PX, images.shape[-1] // PATCH_PX
        x = self.embed(images)
        maps = []
        for depth, block in enumerate(self.blocks, start=1):
            x = block(x)
            if depth in self.taps:
                maps.append(x[:, self.prefix :].transpose(1, 2).reshape(len(x), -1, rows, cols))
        return Stages(self.head(self.norm(x)[:, 0]), tuple(maps))


class SamBackbone(nn.Module):
    """SAM's image encoder: windows of 14 tokens but for four global blocks, relative positions, and a neck.

    The learned positions are those of an image of 1024 px; of smaller ones, CellViT takes the top left corner.
    """

    def __init__(
        self, *, dim: int, depth: int, heads: int, taps: tuple[int, ...], global_blocks: tuple[int, ...]
    ) -> None:
        super().__init__()
        self.taps = taps
        self.pos_embed = nn.Parameter(torch.zeros(1, 64, 64, dim))
        self.patch_embed = PatchEmbedding(dim=dim, patch=PATCH_PX)
        self.blocks = nn.ModuleList(
            _SamBlock(dim=dim, heads=heads, window=0 if i in global_blocks else 14) for i in range(depth)
        )
        self.neck = nn.Sequential(
            nn.Conv2d(dim, 256, 1, bias=False),
            _ChannelNorm(256),
            nn.Conv2d(256, 256, 3, padding=1, bias=False),
            _ChannelNorm(256),
        )

    def stages(self, images: Tensor) -> Stages:
        """Normalised (B, 3, 16 h, 16 w), h and w at most 64 -> mean of the neck (B, 256), and maps."""
        x = self.patch_embed(images).permute(0, 2, 3, 1)
        x = x + self.pos_embed[:, : x.shape[1], : x.shape[2]]
        maps = []
        for depth, block in enumerate(self.blocks, start=1):
            x = block(x)
            if depth in self.taps:
                maps.append(x.permute(0, 3, 1, 2))
        return Stages(self.neck(x.permute(0, 3, 1, 2)).mean((2, 3)), tuple(maps))


class _SamBlock(nn.Module):
    def __init__(self, *, dim: int, heads: int, window: int) -> None:
        super().__init__()
        self.window = window
        self.norm1 = nn.LayerNorm(dim, eps=_EPS)
        self.attn = _RelativeAttention(dim=dim, heads=heads, side=window or 64)
        self.norm2 = nn.LayerNorm(dim, eps=_EPS)
        self.mlp = _SamMlp(dim)

    def forward(self, x: Tensor) -> Tensor:
        """(B, h, w, D) -> (B, h, w, D)."""
        y = self.norm1(x)
        x = x + (self._windowed(y) if self.window else self.attn(y))
        return x + self.mlp(self.norm2(x))  # type: ignore[no-any-return]

    def _windowed(self, y: Tensor) -> Tensor:
        """Attention inside windows; zeros fill the last ones and are attended to, as in the original."""
        b, h, w, d = y.shape
        s = self.window
        y = F.pad(y, (0, 0, 0, -w % s, 0, -h % s))
        rows, cols = y.shape[1] // s, y.shape[2] // s
        parts = y.view(b, rows, s, cols, s, d).transpose(2, 3).reshape(-1, s, s, d)
        parts = self.attn(parts).view(b, rows, cols, s, s, d).transpose(2, 3)
        return parts.reshape(b, rows * s, cols * s, d)[:, :h, :w]  # type: ignore[no-any-return]


class _SamMlp(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.lin1 = Linear(dim, 4 * dim)
        self.lin2 = Linear(4 * dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.lin2(self.lin1.gelu(x))  # type: ignore[no-any-return]


class _RelativeAttention(nn.Module):
    """Self-attention of a grid whose logits add q . r(row difference) + q . r(column difference)."""

    def __init__(self, *, dim: int, heads: int, side: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = Linear(dim, 3 * dim)
        self.proj = Linear(dim, dim)
        self.rel_pos_h = nn.Parameter(torch.zeros(2 * side - 1, dim // heads))
        self.rel_pos_w = nn.Parameter(torch.zeros(2 * side - 1, dim // heads))

    def forward(self, x: Tensor) -> Tensor:
        """(B, h, w, D) -> (B, h, w, D)."""
        b, h, w, d = x.shape
        q, k, v = self.qkv(x).view(b, h * w, 3, self.heads, d // self.heads).permute(2, 0, 3, 1, 4)
        grid = q.reshape(b, self.heads, h, w, -1)
        # (B, H, h, w, rows of keys) and (B, H, h, w, columns of keys)
        by_row = torch.einsum("bnhwc,hkc->bnhwk", grid, _relative(self.rel_pos_h, h))
        by_col = torch.einsum("bnhwc,wkc->bnhwk", grid, _relative(self.rel_pos_w, w))
        bias = (by_row[..., :, None] + by_col[..., None, :]).reshape(b, self.heads, h * w, h * w)
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=bias)
        return self.proj(y.transpose(1, 2).reshape(b, h, w, d))  # type: ignore[no-any-return]


def _relative(table: Tensor, side: int) -> Tensor:
    """(side, side, C), the row of ``table`` for query i and key j; the table is stretched to the side's length."""
    length = 2 * side - 1
    if len(table) != length:
        table = F.interpolate(table.T[None], size=length, mode="linear")[0].T
    step = torch.arange(side, device=table.device)
    return table[step[:, None] - step[None, :] + side - 1]


class _ChannelNorm(nn.Module):
    """LayerNorm over the channels of (B, C, h, w)."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(dim))
        self.bias = nn.Parameter(torch.zeros(dim))

    def forward(self, x: Tensor) -> Tensor:
        y = F.layer_norm(x.permute(0, 2, 3, 1), self.weight.shape, self.weight, self.bias, _EPS)
        return y.permute(0, 3, 1, 2)
