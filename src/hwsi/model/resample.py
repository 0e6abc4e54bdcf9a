"""The released model's visual part: features of four scales in, as many tokens as there are queries out.

- Four projectors to the language model's width; each region fused with its patches, its cells and the slide; the fused
  regions read by learned queries (a resampler after Perceiver, Jaegle et al. 2021, arXiv:2103.03206).
- Regions have no place here: permuting them changes nothing.
- Masks are right everywhere by default. Two things that the release does instead can be asked for: no masks (its
  inference), and ``padding_counts`` (its training: padding is zero, but divides the mean).

Notation: B slides, R regions and C kept patches of a region (padded), Q queries, D width of the language model, Ds Dr
Dp Dc widths of the features; a patch has one cell vector, its fused cells.
"""

# mypy: disable-error-code="no-untyped-call"
# (much of transformers is not annotated)

from dataclasses import dataclass, fields

import torch
from torch import Tensor, nn

from hwsi.model.config import SCALES, HwsiResampleConfig


@dataclass(frozen=True)
class ResampleBatch:
    """What the visual part reads; the model takes its fields as keyword arguments.

    Attributes:
        slide_features: (B, Ds) float. region_features: (B, R, Dr) float. patch_features: (B, R, C, Dp) float.
        cell_features: (B, R, C, Dc) float.
        region_mask: (B, R) bool, patch_mask and cell_mask: (B, R, C) bool, True where present; None: all are.
    """

    slide_features: Tensor
    region_features: Tensor
    patch_features: Tensor
    cell_features: Tensor
    region_mask: Tensor | None = None
    patch_mask: Tensor | None = None
    cell_mask: Tensor | None = None


RESAMPLE_INPUTS = tuple(f.name for f in fields(ResampleBatch))
"""Names of the model's visual keyword arguments; the masks may be missing."""


class ScaleProjector(nn.Module):
    """LayerNorm, then one layer (``linear``) or two with GELU between (``mlp``)."""

    def __init__(self, *, dim: int, hidden: int | None, width: int, dropout: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.up = nn.Linear(dim, hidden) if hidden else None
        self.act = nn.GELU()
        self.drop = nn.Dropout(dropout)
        self.out = nn.Linear(hidden or dim, width)

    def forward(self, x: Tensor) -> Tensor:
        """``(..., dim)`` -> ``(..., D)``."""
        x = self.norm(x)
        if self.up is not None:
            x = self.drop(self.act(self.up(x)))
        return self.out(x)  # type: ignore[no-any-return]


class RegionFusion(nn.Module):
    """A region with the slide, the mean of its patches and the mean of its cells: one vector."""

    def __init__(self, *, width: int, dropout: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(4 * width)
        self.up = nn.Linear(4 * width, 2 * width)
        self.act = nn.GELU()
        self.drop = nn.Dropout(dropout)
        self.out = nn.Linear(2 * width, width)
        self.out_norm = nn.LayerNorm(width)

    def forward(self, slide: Tensor, region: Tensor, patch: Tensor, cell: Tensor) -> Tensor:
        """``slide (B, D)``, the others ``(B, R, D)`` -> ``(B, R, D)``."""
        joined = torch.cat([slide[:, None].expand_as(region), region, patch, cell], -1)
        fused = self.out(self.drop(self.act(self.up(self.norm(joined)))))
        return self.out_norm(fused + region)  # type: ignore[no-any-return]


class Resampler(nn.Module):
    """Learned queries attend to the regions; keys and values are not normalised, nor is what comes out."""

    def __init__(self, *, width: int, queries: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.queries = nn.Parameter(torch.empty(1, queries, width))
        nn.init.normal_(self.queries, std=0.02)
        self.norm1 = nn.LayerNorm(width)
        self.attn = nn.MultiheadAttention(width, heads, batch_first=True)
        self.norm2 = nn.LayerNorm(width)
        self.up = nn.Linear(width, 4 * width)
        self.act = nn.GELU()
        self.drop = nn.Dropout(dropout)
        self.out = nn.Linear(4 * width, width)

    def forward(self, regions: Tensor, mask: Tensor | None = None) -> Tensor:
        """``regions (B, R, D)``, ``mask (B, R)`` bool with one True a row or None -> ``(B, Q, D)``."""
        queries = self.queries.expand(len(regions), -1, -1)
        hidden = None if mask is None else ~mask
        seen, _ = self.attn(self.norm1(queries), regions, regions, key_padding_mask=hidden, need_weights=False)
        z = queries + seen
        return z + self.out(self.drop(self.act(self.up(self.norm2(z)))))  # type: ignore[no-any-return]


class ResampleVisual(nn.Module):
    """Projectors, fusion and resampler."""

    def __init__(self, config: HwsiResampleConfig) -> None:
        super().__init__()
        width, dropout = config.text_config.hidden_size, config.dropout
        hidden = config.hidden if config.projector == "mlp" else None
        self.projectors = nn.ModuleDict(
            {s: ScaleProjector(dim=config.dims[s], hidden=hidden, width=width, dropout=dropout) for s in SCALES}
        )
        self.fusion = RegionFusion(width=width, dropout=dropout)
        self.resampler = Resampler(width=width, queries=config.queries, heads=config.heads, dropout=dropout)

    def project(self, batch: ResampleBatch) -> dict[str, Tensor]:
        """Tokens of every scale: slide (B, D), region (B, R, D), patch and cell (B, R, C, D)."""
        dtype = self.fusion.out.weight.dtype
        return {scale: self.projectors[scale](getattr(batch, f"{scale}_features").to(dtype)) for scale in SCALES}

    def fuse(self, tokens: dict[str, Tensor], batch: ResampleBatch, *, padding_counts: bool = False) -> Tensor:
        """One vector per region from the tokens of :meth:`project`: (B, R, D)."""
        patch, cell = tokens["patch"], tokens["cell"]
        masks = (batch.patch_mask, batch.cell_mask)
        if padding_counts:
            means = [_zeroed(x, mask).mean(2) for x, mask in zip((patch, cell), masks, strict=True)]
        else:
            means = [_mean(x, mask, (2,)) for x, mask in zip((patch, cell), masks, strict=True)]
        return self.fusion(tokens["slide"], tokens["region"], *means)  # type: ignore[no-any-return]

    def forward(self, batch: ResampleBatch, *, padding_counts: bool = False) -> Tensor:
        """The tokens that the language model reads: (B, Q, D).

        Args:
            batch: features and masks.
            padding_counts: padded patches are zero but count in the mean, so a slide depends on its batch mates; what
                the release's training does.

        Raises:
            ValueError: a slide without any region.
        """
        mask = None if batch.region_mask is None else batch.region_mask.bool()
        if batch.region_features.shape[1] == 0 or (mask is not None and not mask.any(1).all()):
            raise ValueError("a slide has no region to read")
        return self.resampler(self.fuse(self.project(batch), batch, padding_counts=padding_counts), mask)  # type: ignore[no-any-return]

    def pooled(self, batch: ResampleBatch) -> dict[str, Tensor]:
        """Mean token of every scale over what is present: scale -> (B, D); for ``pooled_alignment.py``."""
        tokens = self.project(batch)
        return {
            "slide": tokens["slide"],
            "region": _mean(tokens["region"], batch.region_mask, (1,)),
            "patch": _mean(tokens["patch"], batch.patch_mask, (1, 2)),
            "cell": _mean(tokens["cell"], batch.cell_mask, (1, 2)),
        }


def _zeroed(x: Tensor, mask: Tensor | None) -> Tensor:
    return x if mask is None else x * mask[..., None].to(x.dtype)


def _mean(x: Tensor, mask: Tensor | None, dims: tuple[int, ...]) -> Tensor:
    """Mean over ``dims`` of what the mask says is there; zero where nothing is."""
    if mask is None:
        return x.mean(dims)
    count = mask.to(x.dtype).sum(dims)[..., None]
    return _zeroed(x, mask).sum(dims) / count.clamp(min=1)
