"""Cell-cell attention fusion: the cells of a patch become one vector.

- A [CLS] query reads the cells of its patch through a few transformer blocks (paper: 2 blocks, 2 heads, 768
  wide); there are no positions beyond a cell's place inside its patch, so the result does not depend on the
  cells' order.
- Attention averages: softmax weights add up to one, so a hundred cells and two hundred of the same kinds give
  nearly the same [CLS]. How many there are is diagnostic (density; mitotic count = share x number), so the
  number is fed in again behind it.
- A patch without cells has an output of its own, learned; nothing is ever not finite.

Notation: B patches, K cells (padded), Dc width of a cell's features, W width of CCAF.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hwsi.model.config import HwsiVisualConfig


class CcafBlock(nn.Module):
    """Pre-norm self-attention and MLP (ratio 4) over a masked set."""

    def __init__(self, *, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm_attention = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.norm_mlp = nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x: Tensor, present: Tensor) -> Tensor:
        """``x (B, 1+K, W)``, ``present (B, 1, 1, 1+K)`` bool -> ``(B, 1+K, W)``."""
        b, n, w = x.shape
        q, k, v = self.qkv(self.norm_attention(x)).view(b, n, 3, self.heads, w // self.heads).permute(2, 0, 3, 1, 4)
        attended = F.scaled_dot_product_attention(q, k, v, attn_mask=present)
        x = x + self.out(attended.transpose(1, 2).reshape(b, n, w))
        return x + self.mlp(self.norm_mlp(x))  # type: ignore[no-any-return]


class Ccaf(nn.Module):
    """[CLS] + cells of a patch -> one vector per patch."""

    def __init__(self, config: HwsiVisualConfig) -> None:
        super().__init__()
        width = config.ccaf_width
        self.norm_in = nn.LayerNorm(config.dims["cell"])
        self.cell = nn.Linear(config.dims["cell"], width)
        self.place = nn.Linear(2, width)
        self.cls = nn.Parameter(torch.zeros(width))
        self.no_cells = nn.Parameter(torch.zeros(width))
        self.blocks = nn.ModuleList(CcafBlock(width=width, heads=config.ccaf_heads) for _ in range(config.ccaf_blocks))
        self.norm_out = nn.LayerNorm(width)
        self.count = nn.Linear(1, width)

    def forward(self, features: Tensor, mask: Tensor, xy: Tensor, count: Tensor) -> Tensor:
        """Fuse the cells of many patches at once.

        Args:
            features: (B, K, Dc) float, what stands where ``mask`` is False does not matter.
            mask: (B, K) bool, True where there is a cell.
            xy: (B, K, 2) float in [0, 1], the centroid inside its patch.
            count: (B,) number of cells in the patch, also those beyond K.

        Returns:
            (B, W) float.
        """
        features = features.masked_fill(~mask[..., None], 0)
        xy = xy.masked_fill(~mask[..., None], 0)
        cells = self.cell(self.norm_in(features)) + self.place(2 * xy - 1)
        x = torch.cat([self.cls.expand(len(cells), 1, -1), cells], dim=1)
        present = F.pad(mask, (1, 0), value=True)[:, None, None, :]  # [CLS] is always there: no empty softmax
        for block in self.blocks:
            x = block(x, present)
        fused = torch.where(mask.any(1)[:, None], self.norm_out(x[:, 0]), self.no_cells)
        # log: a patch of 128 um holds 0 to about 200 nuclei, and the step from 0 to 5 says more than from 100
        # to 105
        return fused + self.count(torch.log1p(count.to(fused.dtype))[:, None])  # type: ignore[no-any-return]
