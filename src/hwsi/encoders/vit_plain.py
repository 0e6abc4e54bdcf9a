"""The plain Vision Transformer that pathology's public encoders share, with their differences as written-out numbers.

- What differs: sizes, feed-forward (GELU or gated SiLU), LayerScale, register tokens, whether class and register tokens
  have positions, how positions are stretched to another grid, and the epsilon of the norms.
- What does not: class token, biases, pre-norm blocks, a norm at the end, exact (erf) GELU.
- Tensors are called as timm calls them, as in most public files; :data:`HUGGING_FACE` renames those of transformers.

Sources: ViT arXiv 2010.11929, DINO 2104.14294, DINOv2 2304.07193, registers 2309.16588, LayerScale 2103.17239,
SwiGLU 2002.05202.

Notation: B batch, N patches, T tokens (class, registers, patches), D width, H heads.
"""

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hwsi.encoders.checkpoints import Naming
from hwsi.encoders.onednn import Linear

Stretch = Literal["antialias", "offset", "plain"]

HUGGING_FACE = Naming(
    # a token for training by masking, and a pooling layer that no encoder here uses
    dropped=(r"embeddings\.mask_token", r"pooler\.dense\.(weight|bias)"),
    rules=(
        (r"^embeddings\.cls_token$", "cls_token"),
        (r"^embeddings\.position_embeddings$", "pos_embed"),
        (r"^embeddings\.patch_embeddings\.projection\.", "patch_embed.proj."),
        (r"^(?:encoder\.layer|layers)\.(\d+)\.", r"blocks.\1."),
        # both spellings: that of the files on the Hub, and that of transformers 5
        (r"\.attention\.(?:attention\.query|q_proj)\.(\w+)$", r".attn.qkv.\1#0"),
        (r"\.attention\.(?:attention\.key|k_proj)\.(\w+)$", r".attn.qkv.\1#1"),
        (r"\.attention\.(?:attention\.value|v_proj)\.(\w+)$", r".attn.qkv.\1#2"),
        (r"\.attention\.(?:output\.dense|o_proj)\.", ".attn.proj."),
        (r"\.layernorm_before\.", ".norm1."),
        (r"\.layernorm_after\.", ".norm2."),
        (r"\.intermediate\.dense\.", ".mlp.fc1."),
        (r"^(blocks\.\d+)\.output\.dense\.", r"\1.mlp.fc2."),
        (r"\.mlp\.weights_in\.", ".mlp.fc1."),
        (r"\.mlp\.gate_proj\.(\w+)$", r".mlp.fc1.\1#0"),
        (r"\.mlp\.up_proj\.(\w+)$", r".mlp.fc1.\1#1"),
        (r"\.mlp\.(?:weights_out|down_proj)\.", ".mlp.fc2."),
        (r"\.layer_scale([12])\.lambda1$", r".ls\1.gamma"),
        (r"^layernorm\.", "norm."),
    ),
)
"""Files of transformers' ``ViTModel`` and ``Dinov2Model``."""


class Attention(nn.Module):
    """Multi-head self-attention, by PyTorch's fused kernel."""

    def __init__(self, *, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = Linear(dim, 3 * dim)
        self.proj = Linear(dim, dim)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """(B, T, D) -> (B, T, D); ``mask`` bool, broadcast to (B, H, T, T), True where a key is seen."""
        b, t, d = x.shape
        q, k, v = self.qkv(x).view(b, t, 3, self.heads, d // self.heads).permute(2, 0, 3, 1, 4)
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        return self.proj(y.transpose(1, 2).reshape(b, t, d))  # type: ignore[no-any-return]


class GeluMlp(nn.Module):
    """D -> hidden -> D with exact GELU."""

    def __init__(self, *, dim: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = Linear(dim, hidden)
        self.fc2 = Linear(hidden, dim)

    def forward(self, x: Tensor) -> Tensor:
        """(..., D) -> (..., D)."""
        return self.fc2(self.fc1.gelu(x))  # type: ignore[no-any-return]


class GatedMlp(nn.Module):
    """D -> hidden -> D; the first half of ``hidden`` gates, through SiLU, the second. Both lie in one matrix."""

    def __init__(self, *, dim: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = Linear(dim, hidden)
        self.fc2 = Linear(hidden // 2, dim)

    def forward(self, x: Tensor) -> Tensor:
        """(..., D) -> (..., D)."""
        gate, value = self.fc1(x).chunk(2, dim=-1)
        return self.fc2(F.silu(gate) * value)  # type: ignore[no-any-return]


class LayerScale(nn.Module):
    """A factor per channel on what a block adds."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.full((dim,), 1e-5))

    def forward(self, x: Tensor) -> Tensor:
        """(..., D) -> (..., D)."""
        return x * self.gamma


class Block(nn.Module):
    """x + scale(attention(norm(x))), then x + scale(feed-forward(norm(x)))."""

    def __init__(self, *, dim: int, heads: int, hidden: int, gated: bool, scaled: bool, eps: float) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim, eps=eps)
        self.attn = Attention(dim=dim, heads=heads)
        self.ls1 = LayerScale(dim) if scaled else nn.Identity()
        self.norm2 = nn.LayerNorm(dim, eps=eps)
        self.mlp = (GatedMlp if gated else GeluMlp)(dim=dim, hidden=hidden)
        self.ls2 = LayerScale(dim) if scaled else nn.Identity()

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """(B, T, D) -> (B, T, D); ``mask`` as in :class:`Attention`."""
        x = x + self.ls1(self.attn(self.norm1(x), mask))
        return x + self.ls2(self.mlp(self.norm2(x)))  # type: ignore[no-any-return]


class Trunk(nn.Module):
    """All of a Vision Transformer but the way in: patch vectors (B, N, D) to tokens (B, T, D).

    Args:
        dim, depth, heads: of the transformer.
        hidden: width inside the feed-forward layers; of gated ones, of both halves together.
        grid: patches along a side of the grid for which positions are stored.
        gated: feed-forward is :class:`GatedMlp`.
        scaled: blocks have LayerScale.
        registers: number of register tokens, which stand behind the class token.
        bare_prefix: class and register tokens have no positions.
        stretch: positions on another grid, by bicubic interpolation: ``antialias`` (timm) or ``plain`` (transformers)
            to its size, ``offset`` (DINO, HIPT) by the ratio of its size + 0.1 to that of the stored grid, which shifts
            samples slightly.
        eps: of all norms.
    """

    def __init__(
        self,
        *,
        dim: int,
        depth: int,
        heads: int,
        hidden: int,
        grid: int,
        gated: bool = False,
        scaled: bool = False,
        registers: int = 0,
        bare_prefix: bool = False,
        stretch: Stretch = "antialias",
        eps: float = 1e-6,
    ) -> None:
        super().__init__()
        self.grid = grid
        self.prefix = 1 + registers
        self.bare_prefix = bare_prefix
        self.stretch = stretch
        self.cls_token = nn.Parameter(torch.zeros(1, 1, dim))
        self.reg_token = nn.Parameter(torch.zeros(1, registers, dim)) if registers else None
        placed = grid * grid if bare_prefix else self.prefix + grid * grid
        self.pos_embed = nn.Parameter(0.02 * torch.randn(1, placed, dim))
        self.blocks = nn.ModuleList(
            Block(dim=dim, heads=heads, hidden=hidden, gated=gated, scaled=scaled, eps=eps) for _ in range(depth)
        )
        self.norm = nn.LayerNorm(dim, eps=eps)

    def positions(self, rows: int, cols: int) -> Tensor:
        """Positions (1, rows * cols, D) of a grid's places, row by row."""
        stored = self.pos_embed if self.bare_prefix else self.pos_embed[:, self.prefix :]
        if rows == cols == self.grid:
            return stored
        square = stored.view(1, self.grid, self.grid, -1).permute(0, 3, 1, 2)
        if self.stretch == "offset":
            # the 0.1 is DINO's guard against rounding down; the weights were trained with it
            ratio = ((rows + 0.1) / self.grid, (cols + 0.1) / self.grid)
            square = F.interpolate(square, scale_factor=ratio, mode="bicubic")
        else:
            square = F.interpolate(square, size=(rows, cols), mode="bicubic", antialias=self.stretch == "antialias")
        return square.flatten(2).transpose(1, 2)

    def assemble(self, patches: Tensor, positions: Tensor) -> Tensor:
        """(B, N, D), their positions (1 or B, N, D) -> (B, T, D): what the first block reads."""
        prefix = self.cls_token if self.reg_token is None else torch.cat([self.cls_token, self.reg_token], dim=1)
        if not self.bare_prefix:
            prefix = prefix + self.pos_embed[:, : self.prefix]
        return torch.cat([prefix.expand(len(patches), -1, -1), patches + positions], dim=1)

    def transform(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """(B, T, D) through all blocks and the last norm; ``mask`` as in :class:`Attention`."""
        for block in self.blocks:
            x = block(x, mask)
        return self.norm(x)  # type: ignore[no-any-return]


class PatchEmbedding(nn.Module):
    """Squares of pixels to vectors, by one linear map."""

    def __init__(self, *, dim: int, patch: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, dim, patch, stride=patch)

    def forward(self, pixels: Tensor) -> Tensor:
        """(B, 3, height, width) -> (B, D, rows, cols)."""
        return self.proj(pixels)  # type: ignore[no-any-return]


class PlainViT(Trunk):
    """Pixels to tokens.

    Args:
        image: side in pixels of the images for which positions are stored.
        patch: side in pixels of a patch.
        dim, sizes: as :class:`Trunk`; ``grid`` follows from image and patch.
    """

    def __init__(
        self,
        *,
        image: int,
        patch: int,
        dim: int,
        depth: int,
        heads: int,
        hidden: int,
        gated: bool = False,
        scaled: bool = False,
        registers: int = 0,
        bare_prefix: bool = False,
        stretch: Stretch = "antialias",
        eps: float = 1e-6,
    ) -> None:
        super().__init__(
            dim=dim, depth=depth, heads=heads, hidden=hidden, grid=image // patch, gated=gated, scaled=scaled,
            registers=registers, bare_prefix=bare_prefix, stretch=stretch, eps=eps,
        )  # fmt: skip
        self.patch_embed = PatchEmbedding(dim=dim, patch=patch)

    def embed(self, pixels: Tensor) -> Tensor:
        """Normalised pixels float (B, 3, height, width), multiples of the patch -> (B, T, D), before any block."""
        patches = self.patch_embed(pixels)
        rows, cols = patches.shape[-2:]
        return self.assemble(patches.flatten(2).transpose(1, 2), self.positions(rows, cols))

    def forward(self, pixels: Tensor) -> Tensor:
        """Normalised pixels float (B, 3, height, width) -> tokens (B, T, D), patches row by row at the end."""
        return self.transform(self.embed(pixels))
