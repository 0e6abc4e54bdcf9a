"""Cell-cell attention fusion as the authors' release has it: all blocks of DINOv2 ViT-S/14, untrained for cells.

- The cells of a patch go behind the class token through 12 blocks and the final norm; its class token is the patch's
  cell vector. There are no positions, so the order of the cells does not matter; a patch without cells is zeros.
- The release loads the blocks by torch.hub at run time and fuses one patch at a time; here they come from a file, and
  patches are batched under a mask. The fusion that the paper draws (2 blocks, 2 heads, 768 wide, trained) is
  :mod:`hwsi.model.ccaf`.
- Sources: MLLM-HWSI's release; DINOv2 (arXiv:2304.07193), weights Apache-2.0.

Notation: B patches, K cells (padded), D = 384.
"""

from pathlib import Path

import torch
from torch import Tensor, nn

from hwsi.encoders.cell_slide_cards import CCAF_DINO
from hwsi.encoders.checkpoints import Naming, load_checkpoint
from hwsi.encoders.vit_plain import Block

DIM = 384

# the way from pixels into the blocks, and the token for training by masking
_DINOV2 = Naming(dropped=(r"pos_embed", r"mask_token", r"patch_embed\.proj\.(weight|bias)"))


class CcafDino(nn.Module):
    """Vectors of cells to one vector per patch. Parameters have the names of DINOv2's checkpoint."""

    spec = CCAF_DINO

    def __init__(self) -> None:
        super().__init__()
        self.cls_token = nn.Parameter(torch.zeros(1, 1, DIM))
        self.blocks = nn.ModuleList(
            Block(dim=DIM, heads=6, hidden=4 * DIM, gated=False, scaled=True, eps=1e-6) for _ in range(12)
        )
        self.norm = nn.LayerNorm(DIM, eps=1e-6)

    def forward(self, cells: Tensor, mask: Tensor) -> Tensor:
        """``cells`` (B, K, 384), ``mask`` bool (B, K) True where there is a cell -> (B, 384)."""
        cells = cells.masked_fill(~mask[..., None], 0)
        x = torch.cat([self.cls_token.expand(len(cells), -1, -1), cells], dim=1)
        seen = torch.cat([mask.new_ones(len(mask), 1), mask], dim=1)[:, None, None, :]
        for block in self.blocks:
            x = block(x, seen)
        fused = self.norm(x[:, 0])
        return torch.where(mask.any(1)[:, None], fused, torch.zeros_like(fused))


def build(weights: Path | None) -> CcafDino:
    """The fusion with the blocks of DINOv2's file ``dinov2_vits14_pretrain.pth``, or with seeded random ones.

    Raises:
        HwsiError: WEIGHTS_MISSING, WEIGHTS_MISMATCH.
    """
    return load_checkpoint(CcafDino, weights, _DINOV2).eval()
