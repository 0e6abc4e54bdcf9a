"""Region encoder of the embedded preset: patches of a region with their cells and places to 192 numbers.

- Absolute row and column are embedded, so the order in which patches are handed in doesn't matter.
- The vector carries sums that a slide encoder can add up (``sides.py``), in directions of their own.
- Patches that are absent (background, padding) change nothing: they are no keys, and the pooling leaves them out.
"""

from importlib.resources.abc import Traversable
from pathlib import Path

import torch
from torch import Tensor, nn

from hwsi.encoders.nano import CELL, PATCH, REGION, REGION_SIDE
from hwsi.encoders.sides import TAIL, Sides, directions
from hwsi.encoders.summaries import cells_dim
from hwsi.encoders.vit import Block, Pool, init_weights
from hwsi.encoders.weights import initialise

_MAX_SIDE = 32
_CELLS = cells_dim(CELL.dim)


class RegionNano(nn.Module):
    """``forward``: (B, T, 192 + 261), bool (B, T), int (B, T, 2) with values 0 to 31 -> (B, 192).

    ``fit`` sets the standardisation of the rows on cells before training.
    """

    spec = REGION
    mean: Tensor
    deviation: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.row = nn.Embedding(_MAX_SIDE, 192)
        self.col = nn.Embedding(_MAX_SIDE, 192)
        self.norm_in = nn.LayerNorm(192)
        self.into = nn.Linear(192, 192)
        self.cells = nn.Linear(_CELLS, 192)
        self.register_buffer("mean", torch.zeros(_CELLS))
        self.register_buffer("deviation", torch.ones(_CELLS))
        self.cls = nn.Parameter(torch.zeros(1, 1, 192))
        self.blocks = nn.ModuleList(Block(dim=192, heads=3, hidden=384) for _ in range(2))
        self.norm = nn.LayerNorm(192)
        self.pool = Pool(dim=192, out_dim=192)
        self.sides = Sides(dim=192, side=REGION_SIDE)
        self.carry = nn.Linear(TAIL, 192, bias=False)
        self.apply(init_weights)
        self.carry.weight.data.copy_(directions(192))
        nn.init.trunc_normal_(self.cls, std=0.02)

    def fit(self, rows: Tensor) -> None:
        """Set mean and deviation of rows on cells (n, 261) from those of a training set."""
        self.mean.copy_(rows.mean(0))
        self.deviation.copy_(rows.std(0).clamp(min=1e-2))

    def forward(self, patches: Tensor, mask: Tensor, row_col: Tensor) -> Tensor:
        """(B, T, 192 + 261), bool (B, T), int (B, T, 2) -> (B, 192)."""
        present = mask.unsqueeze(-1)
        # what stands at absent places may be anything, even nan
        patches = torch.where(present, patches, torch.zeros_like(patches))
        row_col = torch.where(present, row_col, torch.zeros_like(row_col))
        vectors, cells = patches[..., : PATCH.dim], patches[..., PATCH.dim :]
        cells = ((cells - self.mean) / self.deviation).clamp(-5, 5)
        x = self.into(self.norm_in(vectors)) + self.cells(cells)
        x = x + self.row(row_col[..., 0]) + self.col(row_col[..., 1])
        x = torch.cat([self.cls.expand(len(x), -1, -1), x], dim=1)
        keys = torch.cat([mask.new_ones(len(mask), 1), mask], dim=1)
        for block in self.blocks:
            x = block(x, keys)
        x = self.norm(x)
        pooled: Tensor = self.pool(x[:, 0], x[:, 1:], mask)
        return pooled + self.carry(self.sides(x[:, 1:], mask, row_col))  # type: ignore[no-any-return]

    @torch.no_grad()
    def encode(self, patches: Tensor, mask: Tensor, row_col: Tensor) -> Tensor:
        """:meth:`forward` without gradients, on the encoder's device."""
        at = self.cls.device
        return self(patches.to(at), mask.to(at), row_col.to(at))  # type: ignore[no-any-return]


def build(weights: Traversable | Path | None) -> RegionNano:
    """The encoder with the weights of a file, or with seeded random ones."""
    return initialise(RegionNano, weights)
