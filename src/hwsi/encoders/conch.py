"""CONCH's image tower: a patch to 512 numbers in the space that it shares with CONCH's text tower.

- Patches are resized to 448 px (on 8-bit pixels, bicubic), so a patch of 256 px becomes 28 x 28 tokens.
- One learned query reads all tokens (attentional pooling), then norm, projection and unit length: what MLLM-HWSI was
  trained on. TRIDENT's ``conch_v1`` features stop before the projection: :meth:`Conch.pooled`.
- The captioning head and the text decoder of the file are not built. The public file holds random numbers in the
  decoder's place.

Source: Lu et al. 2024, doi 10.1038/s41591-024-02856-4; CoCa, arXiv 2205.01917.
"""

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hwsi.encoders import foundation
from hwsi.encoders.checkpoints import Naming, load_checkpoint
from hwsi.encoders.pixels import CLIP, Preparation
from hwsi.encoders.vit_plain import PlainViT

_IMAGE = Naming(
    prefixes=("visual.",),
    dropped=(r"text\..*", r"text_decoder\..*", r"logit_scale", r"attn_pool_caption\..*", r"ln_caption\..*"),
)


class AttentionPool(nn.Module):
    """One learned query over tokens of 768 numbers, eight heads, to 512 numbers.

    One query needs no key and no value of each token: what it asks of a head is taken to the tokens (q W_k), and what
    it finds there, a mean of tokens, to the values. The bias of keys shifts all scores of a head alike.
    """

    def __init__(self) -> None:
        super().__init__()
        self.query = nn.Parameter(torch.randn(1, 512))
        self.attn = nn.MultiheadAttention(512, 8, kdim=768, vdim=768, batch_first=True)
        self.ln_q = nn.LayerNorm(512)
        self.ln_k = nn.LayerNorm(768)

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, T, 768) -> (B, 512)."""
        attn, heads = self.attn, self.attn.num_heads
        bias_q, _, bias_v = attn.in_proj_bias.chunk(3)
        query = F.linear(self.ln_q(self.query)[0], attn.q_proj_weight, bias_q).view(heads, -1)
        to_key, to_value = (w.view(heads, -1, w.shape[1]) for w in (attn.k_proj_weight, attn.v_proj_weight))
        keys = self.ln_k(tokens)
        asked = torch.einsum("hd,hdc->ch", query * query.shape[1] ** -0.5, to_key)
        found = (keys @ asked).softmax(1).transpose(1, 2) @ keys
        values = torch.einsum("bhc,hdc->bhd", found, to_value).flatten(1) + bias_v
        return attn.out_proj(values)  # type: ignore[no-any-return]


class Conch(nn.Module):
    """``encode``: uint8 (B, H, H, 3) RGB, of any side -> float32 (B, 512), rows of length one. ViT-B/16."""

    spec = foundation.CONCH_V1
    preparation = Preparation(side=448, colour=CLIP)

    def __init__(self) -> None:
        super().__init__()
        self.trunk = PlainViT(image=448, patch=16, dim=768, depth=12, heads=12, hidden=3072)
        self.attn_pool_contrast = AttentionPool()
        self.ln_contrast = nn.LayerNorm(512)
        self.proj_contrast = nn.Parameter(torch.randn(512, 512) / 512**0.5)

    def pooled(self, pixels: Tensor) -> Tensor:
        """Normalised pixels (B, 3, 448, 448) -> (B, 512), before the projection into the space of texts."""
        return self.ln_contrast(self.attn_pool_contrast(self.trunk(pixels)))  # type: ignore[no-any-return]

    def forward(self, pixels: Tensor) -> Tensor:
        """Normalised pixels (B, 3, 448, 448) -> (B, 512), projected, of any length."""
        return self.pooled(pixels) @ self.proj_contrast

    def encode(self, images: Tensor) -> Tensor:
        """uint8 (B, H, H, 3) -> float32 (B, 512), rows of length one, on the encoder's device.

        Raises:
            HwsiError: OPTION_INVALID for what are no square RGB images of 8 bits.
        """
        with torch.inference_mode():
            vectors = F.normalize(self(self.preparation(images, self.proj_contrast.device)), dim=-1)
        return vectors.clone()


def build(weights: Path | None) -> Conch:
    """The image tower with the weights of CONCH's file, or with seeded random ones. Raises HwsiError(WEIGHTS_...)."""
    return load_checkpoint(Conch, weights, _IMAGE)
