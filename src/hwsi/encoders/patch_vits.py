"""Patch encoders that are one plain Vision Transformer each: architecture, pixels and pooling of every checkpoint.

- A builder is called as its checkpoint is; the numbers are written out, from the model cards and their configurations.
- Two poolings: the class token, or class token and mean of the patch tokens side by side (register tokens are
  left out of the mean).
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from hwsi.encoders import foundation
from hwsi.encoders.checkpoints import Naming, load_checkpoint
from hwsi.encoders.pixels import BIOPTIMUS, HALF, IMAGENET, Preparation
from hwsi.encoders.registry import EncoderSpec
from hwsi.encoders.vit_plain import HUGGING_FACE, PlainViT


class PatchViT(nn.Module):
    """``encode``: uint8 (B, H, H, 3) RGB, of any side -> float32 (B, D).

    Args:
        vit: the transformer.
        preparation: of the pixels.
        with_mean: the mean of the patch tokens stands behind the class token.
    """

    def __init__(self, *, spec: EncoderSpec, vit: PlainViT, preparation: Preparation, with_mean: bool) -> None:
        super().__init__()
        self.spec = spec
        self.vit = vit
        self.preparation = preparation
        self.with_mean = with_mean

    def forward(self, pixels: Tensor) -> Tensor:
        """Normalised pixels (B, 3, s, s) -> (B, D)."""
        tokens = self.vit(pixels)
        if not self.with_mean:
            return tokens[:, 0]  # type: ignore[no-any-return]
        return torch.cat([tokens[:, 0], tokens[:, self.vit.prefix :].mean(1)], dim=-1)

    def encode(self, images: Tensor) -> Tensor:
        """uint8 (B, H, H, 3) -> float32 (B, D), on the encoder's device. Raises HwsiError(OPTION_INVALID)."""
        with torch.inference_mode():
            vectors = self(self.preparation(images, self.vit.cls_token.device))
        # a copy made outside is an ordinary tensor, which may take part in training
        return vectors.clone()  # type: ignore[no-any-return]


@dataclass(frozen=True, kw_only=True)
class Builder:
    """Makes the encoder of one checkpoint; see :class:`PatchViT` for the parts."""

    spec: EncoderSpec
    vit: Callable[[], PlainViT]
    preparation: Preparation
    with_mean: bool = False
    naming: Naming | None = None

    def __call__(self, weights: Path | None) -> PatchViT:
        """The encoder with the weights of a file, or with seeded random ones. Raises HwsiError(WEIGHTS_...)."""
        vit = load_checkpoint(self.vit, weights, self.naming)
        return PatchViT(spec=self.spec, vit=vit, preparation=self.preparation, with_mean=self.with_mean)


_imagenet_224 = Preparation(side=224, colour=IMAGENET)
_bioptimus_224 = Preparation(side=224, colour=BIOPTIMUS)
# the card resizes with torchvision's default filter
_uni_224 = Preparation(side=224, colour=IMAGENET, filter="bilinear")

uni_v1 = Builder(
    spec=foundation.UNI_V1,
    vit=partial(PlainViT, image=224, patch=16, dim=1024, depth=24, heads=16, hidden=4096, scaled=True),
    preparation=_uni_224,
)
uni_v2 = Builder(
    spec=foundation.UNI_V2,
    vit=partial(
        PlainViT, image=224, patch=14, dim=1536, depth=24, heads=24, hidden=8192, gated=True, scaled=True,
        registers=8, bare_prefix=True,
    ),
    preparation=_uni_224,
)  # fmt: skip
virchow = Builder(
    spec=foundation.VIRCHOW,
    vit=partial(
        PlainViT, image=224, patch=14, dim=1280, depth=32, heads=16, hidden=6832, gated=True, scaled=True,
    ),
    preparation=_imagenet_224,
    with_mean=True,
)  # fmt: skip
virchow2 = Builder(
    spec=foundation.VIRCHOW2,
    vit=partial(
        PlainViT, image=224, patch=14, dim=1280, depth=32, heads=16, hidden=6832, gated=True, scaled=True, registers=4,
    ),
    preparation=_imagenet_224,
    with_mean=True,
)  # fmt: skip
_h_optimus = partial(
    PlainViT, image=224, patch=14, dim=1536, depth=40, heads=24, hidden=8192, gated=True, scaled=True,
    registers=4, bare_prefix=True,
)  # fmt: skip
hoptimus0 = Builder(spec=foundation.HOPTIMUS0, vit=_h_optimus, preparation=_bioptimus_224)
hoptimus1 = Builder(spec=foundation.HOPTIMUS1, vit=_h_optimus, preparation=_bioptimus_224)
h0_mini = Builder(
    spec=foundation.H0_MINI,
    vit=partial(
        PlainViT, image=224, patch=14, dim=768, depth=12, heads=12, hidden=4096, gated=True, scaled=True,
        registers=4, bare_prefix=True,
    ),
    preparation=_bioptimus_224,
    with_mean=True,
)  # fmt: skip
gigapath = Builder(
    spec=foundation.GIGAPATH,
    vit=partial(PlainViT, image=224, patch=16, dim=1536, depth=40, heads=24, hidden=8192, gated=True, scaled=True),
    # 256 px at 0.5 um/px lose their rim, not their scale
    preparation=Preparation(side=256, crop=224, colour=IMAGENET),
)
midnight12k = Builder(
    spec=foundation.MIDNIGHT_12K,
    # positions were stored for 518 px and are stretched from 37 x 37 to 16 x 16
    vit=partial(
        PlainViT, image=518, patch=14, dim=1536, depth=40, heads=24, hidden=8192, gated=True, scaled=True,
        stretch="plain",
    ),
    preparation=Preparation(side=224, colour=HALF, filter="bilinear"),
    with_mean=True,
    naming=HUGGING_FACE,
)  # fmt: skip
phikon = Builder(
    spec=foundation.PHIKON,
    vit=partial(PlainViT, image=224, patch=16, dim=768, depth=12, heads=12, hidden=3072, eps=1e-12),
    preparation=Preparation(side=224, colour=IMAGENET, filter="bilinear"),
    naming=HUGGING_FACE,
)
phikon_v2 = Builder(
    spec=foundation.PHIKON_V2,
    vit=partial(PlainViT, image=224, patch=16, dim=1024, depth=24, heads=16, hidden=4096, scaled=True),
    preparation=_imagenet_224,
    naming=HUGGING_FACE,
)
