"""Slide encoder of the embedded preset: region vectors with their tissue and places in mm to 192 numbers.

- Sparse attention: a region sees itself, its 8 nearest regions and 4 global tokens; the global tokens see all.
  Neighbours are found by a tree and gathered: time and memory grow linearly with the number of regions.
- Places enter as Fourier features around the slide's centre of tissue: moving the tissue on the glass changes
  nothing, nor does the order of the regions.
- The number of pieces of tissue is added up over the regions and embedded.
- On which side something lies is added up from sums that the region vectors carry (``sides.py``).
- :class:`SparseSlide` is the same at any width; ``vit_wsi.py`` makes of it what reads HIPT's regions.

Notation: B slides, R regions, G = 4 global tokens, D width (192), H heads (3), K = 9 (itself and neighbours).
"""

import math
from importlib.resources.abc import Traversable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial import cKDTree
from torch import Tensor, nn
from torch.nn import functional as F

from hwsi.encoders.nano import REGION, REGION_MM, SLIDE
from hwsi.encoders.sides import TAIL, WHOLE, add_up, directions
from hwsi.encoders.summaries import TISSUE_DIM
from hwsi.encoders.vit import Attention, Mlp, Pool, init_weights
from hwsi.encoders.weights import initialise

_GLOBALS = 4
_NEIGHBOURS = 8
_CHUNK = 1024
_TIE = 1e-4
"""What the direction adds, at most, to the square of a distance: less than a step on any grid."""
_MOST_PIECES = 8
_WAVELENGTHS_MM = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0)


def nearest(centre_mm: Tensor, mask: Tensor, k: int = _NEIGHBOURS) -> tuple[Tensor, Tensor]:
    """Each region itself and its ``k`` nearest by distance of centres, by a tree of places: R log R.

    On a grid many distances are equal; such ties go by the direction, never by the order of the regions.

    Args:
        centre_mm: (B, R, 2).
        mask: bool (B, R), True where a region is present.

    Returns:
        index (B, R, min(k+1, R)) int64, and bool of the same shape: False where there is no such neighbour.
    """
    b, r = mask.shape
    wanted = min(k + 1, r)
    index = np.zeros((b, r, wanted), np.int64)
    valid = np.zeros((b, r, wanted), bool)
    for i, (centre, present) in enumerate(zip(centre_mm.double().cpu().numpy(), mask.cpu().numpy(), strict=True)):
        rows = np.flatnonzero(present)
        if len(rows):
            found = _nearest_of(centre[rows], min(wanted, len(rows)))
            index[i, rows, : found.shape[1]] = rows[found]
            valid[i, rows, : found.shape[1]] = True
    return torch.from_numpy(index).to(mask.device), torch.from_numpy(valid).to(mask.device)


def _nearest_of(centre: NDArray[np.float64], wanted: int) -> NDArray[np.int64]:
    """Rows (n, wanted) of the nearest of ``centre`` (n, 2), each itself first."""
    n = len(centre)
    tree = cKDTree(centre)
    out = np.zeros((n, wanted), np.int64)
    todo, asked = np.arange(n), min(n, 2 * wanted)
    while len(todo):
        far, at = tree.query(centre[todo], k=asked)
        distance, near = np.reshape(far, (-1, asked)), np.reshape(at, (-1, asked))
        step = centre[near] - centre[todo, None]
        angle = np.arctan2(step[..., 1], step[..., 0]) / np.pi
        key = np.square(step).sum(-1) * (1 + _TIE * angle)
        key[near == todo[:, None]] = -1.0  # itself first, also where centres coincide
        order = np.argsort(key, axis=1, kind="stable")[:, :wanted]
        out[todo] = np.take_along_axis(near, order, 1)
        out[todo, 0] = todo
        last = np.take_along_axis(key, order, 1)[:, -1]
        # a tie may go on behind what was asked for; where centres coincide there is no direction to go by
        short = (np.square(distance[:, -1]) * (1 - _TIE) <= last) & (last > 0) & (asked < n)
        todo, asked = todo[short], min(n, 2 * asked)
    return out


class NeighbourBlock(nn.Module):
    """Pre-norm block whose attention is sparse between regions and dense for the global tokens."""

    def __init__(self, *, dim: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim)
        self.attention = Attention(dim=dim, heads=heads)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = Mlp(dim=dim, hidden=hidden)

    def forward(self, x: Tensor, mask: Tensor, index: Tensor, valid: Tensor) -> Tensor:
        """(B, G + R, D) with the global tokens first, bool (B, R), (B, R, K), bool (B, R, K) -> (B, G + R, D)."""
        b, n, d = x.shape
        heads = self.attention.heads
        q, k, v = self.attention.qkv(self.norm1(x)).view(b, n, 3, heads, d // heads).permute(2, 0, 3, 1, 4)
        all_keys = F.pad(mask, (_GLOBALS, 0), value=True)[:, None, None, :]
        parts = [F.scaled_dot_product_attention(q[:, :, :_GLOBALS], k, v, attn_mask=all_keys)]
        for start in range(0, n - _GLOBALS, _CHUNK):
            rows = slice(start, start + _CHUNK)
            parts.append(self._local(q[:, :, _GLOBALS:][:, :, rows], k, v, index[:, rows], valid[:, rows]))
        y = torch.cat(parts, dim=2).transpose(1, 2).reshape(b, n, d)
        x = x + self.attention.out(y)
        return x + self.mlp(self.norm2(x))  # type: ignore[no-any-return]

    @staticmethod
    def _local(q: Tensor, k: Tensor, v: Tensor, index: Tensor, valid: Tensor) -> Tensor:
        """Queries (B, H, C, d) over the global tokens and their own neighbours (B, C, K) -> (B, H, C, d)."""
        b, h, c, d = q.shape
        seen = F.pad(index + _GLOBALS, (_GLOBALS, 0))
        seen[..., :_GLOBALS] = torch.arange(_GLOBALS, device=seen.device)
        may = F.pad(valid, (_GLOBALS, 0), value=True)
        at = seen.view(b, 1, -1, 1).expand(b, h, -1, d)
        near_k = k.gather(2, at).view(b, h, c, -1, d)
        near_v = v.gather(2, at).view(b, h, c, -1, d)
        score = torch.einsum("bhcd,bhckd->bhck", q, near_k) / math.sqrt(d)
        share = score.masked_fill(~may[:, None], -torch.inf).softmax(-1)
        return torch.einsum("bhck,bhckd->bhcd", share, near_v)


class SparseSlide(nn.Module):
    """``forward``: (B, R, region_dim [+ 2]), bool (B, R), float (B, R, 2) -> (B, D).

    Args:
        region_dim: width of a region's vector.
        dim, heads, hidden, depth: D, H, width inside the feed-forward layers and number of the blocks.
        with_tissue: two columns on the tissue of each region stand behind its vector (``summarise_tissue``).
        sides_mm: side of a region where its vector carries sums (``sides.py``), else 0.
    """

    wave: Tensor

    def __init__(
        self, *, region_dim: int, dim: int, heads: int, hidden: int, depth: int, with_tissue: bool,
        sides_mm: float = 0.0,
    ) -> None:  # fmt: skip
        super().__init__()
        self.region_dim, self.half_mm = region_dim, sides_mm / 2
        self.register_buffer("wave", 2 * math.pi / torch.tensor(_WAVELENGTHS_MM), persistent=False)
        self.place = nn.Linear(4 * len(_WAVELENGTHS_MM), dim)
        self.norm_in = nn.LayerNorm(region_dim)
        self.into = nn.Linear(region_dim, dim)
        self.tissue = nn.Linear(TISSUE_DIM, dim) if with_tissue else None
        self.pieces = nn.Embedding(_MOST_PIECES + 1, dim) if with_tissue else None
        self.globals = nn.Parameter(torch.zeros(1, _GLOBALS, dim))
        self.blocks = nn.ModuleList(NeighbourBlock(dim=dim, heads=heads, hidden=hidden) for _ in range(depth))
        self.norm = nn.LayerNorm(dim)
        self.pool = Pool(dim=dim, out_dim=dim)
        self.carried = nn.Linear(region_dim, TAIL, bias=False) if sides_mm else None
        self.sides = nn.Linear(WHOLE, dim) if sides_mm else None
        self.apply(init_weights)
        nn.init.trunc_normal_(self.globals, std=0.02)
        # as loud as the region vectors: where something lies is learned from few slides
        nn.init.trunc_normal_(self.place.weight, std=0.1)
        if self.carried is not None:
            self.carried.weight.data.copy_(directions(region_dim).T)

    def forward(self, regions: Tensor, mask: Tensor, centre_mm: Tensor) -> Tensor:
        """(B, R, region_dim [+ 2]), bool (B, R), float (B, R, 2) -> (B, D)."""
        present = mask.unsqueeze(-1)
        regions = torch.where(present, regions, torch.zeros_like(regions))
        centre_mm = torch.where(present, centre_mm, torch.zeros_like(centre_mm))
        index, valid = nearest(centre_mm, mask)
        middle = centre_mm.sum(1, keepdim=True) / present.sum(1, keepdim=True).clamp(min=1)
        angle = ((centre_mm - middle).unsqueeze(-1) * self.wave).flatten(2)
        vectors, tissue = regions[..., : self.region_dim], regions[..., self.region_dim :]
        x = self.into(self.norm_in(vectors))
        if self.tissue is not None:
            x = x + self.tissue(tissue)
        x = x + self.place(torch.cat([angle.sin(), angle.cos()], dim=-1))
        x = torch.cat([self.globals.expand(len(x), -1, -1), x], dim=1)
        for block in self.blocks:
            x = block(x, mask, index, valid)
        x = self.norm(x)
        pooled: Tensor = self.pool(x[:, :_GLOBALS].mean(1), x[:, _GLOBALS:], mask)
        if self.carried is not None and self.sides is not None:
            sums = self.carried(vectors)
            pooled = pooled + self.sides(add_up(sums, mask, centre_mm / self.half_mm))
        if self.pieces is None:
            return pooled
        number = tissue[..., 1].sum(1).round().long().clamp(0, _MOST_PIECES)
        return pooled + self.pieces(number)  # type: ignore[no-any-return]

    @torch.no_grad()
    def encode(self, regions: Tensor, mask: Tensor, centre_mm: Tensor) -> Tensor:
        """:meth:`forward` without gradients, on the encoder's device."""
        at = self.globals.device
        return self(regions.to(at), mask.to(at), centre_mm.to(at))  # type: ignore[no-any-return]


class SlideNano(SparseSlide):
    """``forward``: (B, R, 192 + 2), bool (B, R), float (B, R, 2) -> (B, 192)."""

    spec = SLIDE

    def __init__(self) -> None:
        super().__init__(
            region_dim=REGION.dim, dim=192, heads=3, hidden=384, depth=2, with_tissue=True, sides_mm=REGION_MM
        )


def build(weights: Traversable | Path | None) -> SlideNano:
    """The encoder with the weights of a file, or with seeded random ones."""
    return initialise(SlideNano, weights)
