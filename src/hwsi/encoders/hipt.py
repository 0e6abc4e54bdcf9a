"""HIPT: a patch of 256 px to a vector (ViT-256), and the patches of a region to a vector (ViT-4K).

- Positions were learned on a grid of 14 x 14 and are stretched to 16 x 16 the way DINO does it.
- A region's patches come in any order, each with its place: positions are looked up by row and column (row-major, as
  in the features that MLLM-HWSI was trained on; ``HIPT_4K.forward`` of HIPT's own code transposes them).
- Absent patches (background that was not encoded) are not looked at. With all present it is the published model.

Source: Chen et al. 2022, arXiv 2206.02647; weights by DINO, arXiv 2104.14294.

Notation: B batch, T places of a region.
"""

from pathlib import Path

import torch
from torch import Tensor, nn

from hwsi.encoders import foundation
from hwsi.encoders.checkpoints import Naming, load_checkpoint
from hwsi.encoders.onednn import Linear
from hwsi.encoders.pixels import HALF, Preparation
from hwsi.encoders.vit_plain import PlainViT, Trunk
from hwsi.errors import HwsiError, Reason

# a checkpoint of DINO's training: the teacher's trunk, and the head that it was trained with
_DINO = Naming(inside="teacher", prefixes=("module.", "backbone."), dropped=(r"head\..*",))


class Vit256(PlainViT):
    """``encode``: uint8 (B, 256, 256, 3) RGB -> float32 (B, 384). ViT-S/16."""

    spec = foundation.HIPT_VIT256
    preparation = Preparation(side=256, colour=HALF)

    def __init__(self) -> None:
        super().__init__(image=224, patch=16, dim=384, depth=12, heads=6, hidden=1536, stretch="offset")

    def encode(self, images: Tensor) -> Tensor:
        """uint8 (B, H, H, 3) -> float32 (B, 384), on the encoder's device. Raises HwsiError(OPTION_INVALID)."""
        with torch.inference_mode():
            vectors = self(self.preparation(images, self.cls_token.device))[:, 0]
        return vectors.clone()  # type: ignore[no-any-return]


class Vit4K(Trunk):
    """``encode``: (B, T, 384), bool (B, T), int (B, T, 2) -> float32 (B, 192). Six blocks over a region's patches."""

    spec = foundation.HIPT_VIT4K

    def __init__(self) -> None:
        super().__init__(dim=192, depth=6, heads=6, hidden=768, grid=14, stretch="offset")
        self.phi = nn.Sequential(Linear(384, 192), nn.GELU())

    def forward(self, patches: Tensor, mask: Tensor, row_col: Tensor) -> Tensor:
        """(B, T, 384), bool (B, T), int (B, T, 2) -> (B, 192).

        ``row_col`` holds all places of the regions, absent ones too: the grid ends with the last row and column of the
        batch, so regions of one batch have one size.

        Raises:
            HwsiError: OPTION_INVALID if the vectors are not those of ViT-256.
        """
        if patches.shape[2] != 384:
            what = f"hipt_vit4k reads vectors of 384 numbers, not of {patches.shape[2]}"
            raise HwsiError(Reason.OPTION_INVALID, what, "encode the patches with hipt_vit256")
        rows, cols = (int(n) + 1 for n in row_col.flatten(0, 1).amax(0))
        places = self.positions(rows, cols)[0][row_col[..., 0] * cols + row_col[..., 1]]
        # what stands at absent places may be anything, even nan
        x = self.phi(torch.where(mask.unsqueeze(-1), patches, torch.zeros_like(patches)))
        keys = None
        if not mask.all():
            keys = torch.cat([mask.new_ones(len(mask), 1), mask], dim=1)[:, None, None, :]
        return self.transform(self.assemble(x, places), keys)[:, 0]

    def encode(self, patches: Tensor, mask: Tensor, row_col: Tensor) -> Tensor:
        """:meth:`forward` without gradients, on the encoder's device."""
        at = self.cls_token.device
        with torch.inference_mode():
            vectors = self(patches.to(at), mask.to(at), row_col.to(at))
        return vectors.clone()  # type: ignore[no-any-return]


def build_vit256(weights: Path | None) -> Vit256:
    """ViT-256 with the weights of a file, or with seeded random ones. Raises HwsiError(WEIGHTS_...)."""
    return load_checkpoint(Vit256, weights, _DINO)


def build_vit4k(weights: Path | None) -> Vit4K:
    """ViT-4K with the weights of a file, or with seeded random ones. Raises HwsiError(WEIGHTS_...)."""
    return load_checkpoint(Vit4K, weights, _DINO)
