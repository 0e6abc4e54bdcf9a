"""CONCH v1.5: a patch to 768 numbers, the patch encoder of TITAN. ViT-L/16 at 448 px, 306 M parameters.

- Patches are resized to 448 px (on 8-bit pixels, bilinear). TITAN was trained on patches of 512 px at 0.5 um/px: a
  patch of 256 px is enlarged, one of 512 px made smaller.
- Positions were stored for 224 px and are stretched to 28 x 28 the way DINO does it.
- One learned query reads all tokens, eight heads, no biases; then a norm. There is no projection and no text tower.

Source: Ding et al. 2024 (TITAN), arXiv 2411.19666; weights MahmoodLab/conchv1_5.
"""

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hwsi.encoders import foundation
from hwsi.encoders.checkpoints import load_checkpoint
from hwsi.encoders.onednn import Linear
from hwsi.encoders.pixels import IMAGENET, Preparation
from hwsi.encoders.vit_plain import PlainViT

_DIM = 768
_HEADS = 8


class AttentionPool(nn.Module):
    """One learned query over tokens of 1024 numbers, to 768 numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.query = nn.Parameter(torch.randn(1, _DIM))
        self.ln_k = nn.LayerNorm(1024)
        self.ln_q = nn.LayerNorm(_DIM)
        self.to_q = Linear(_DIM, _DIM, bias=False)
        self.to_kv = Linear(1024, 2 * _DIM, bias=False)
        self.to_out = Linear(_DIM, _DIM, bias=False)

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, T, 1024) -> (B, 768)."""
        b, t, _ = tokens.shape
        query = self.to_q(self.ln_q(self.query)).view(1, 1, _HEADS, -1).expand(b, -1, -1, -1)
        keys, values = self.to_kv(self.ln_k(tokens)).view(b, t, 2, _HEADS, -1).unbind(2)
        q, k, v = (x.transpose(1, 2) for x in (query, keys, values))
        return self.to_out(F.scaled_dot_product_attention(q, k, v).reshape(b, _DIM))  # type: ignore[no-any-return]


class ConchV15(nn.Module):
    """``encode``: uint8 (B, H, H, 3) RGB, of any side -> float32 (B, 768)."""

    spec = foundation.CONCH_V15
    preparation = Preparation(side=448, colour=IMAGENET, filter="bilinear")

    def __init__(self) -> None:
        super().__init__()
        self.trunk = PlainViT(
            image=224, patch=16, dim=1024, depth=24, heads=16, hidden=4096, scaled=True, stretch="offset"
        )
        self.attn_pool_contrast = AttentionPool()
        self.ln_contrast = nn.LayerNorm(_DIM)

    def forward(self, pixels: Tensor) -> Tensor:
        """Normalised pixels (B, 3, 448, 448) -> (B, 768)."""
        return self.ln_contrast(self.attn_pool_contrast(self.trunk(pixels)))  # type: ignore[no-any-return]

    def encode(self, images: Tensor) -> Tensor:
        """uint8 (B, H, H, 3) -> float32 (B, 768), on the encoder's device. Raises HwsiError(OPTION_INVALID)."""
        with torch.inference_mode():
            vectors = self(self.preparation(images, self.trunk.cls_token.device))
        return vectors.clone()  # type: ignore[no-any-return]


def build(weights: Path | None) -> ConchV15:
    """The encoder with the weights of a file, or with seeded random ones. Raises HwsiError(WEIGHTS_...)."""
    # the published file calls its tensors as this module does
    return load_checkpoint(ConchV15, weights)
