"""ViT_WSI over HIPT's regions: the sparse slide encoder of ``slide_nano.py``, reading 192 numbers of a region.

- Nobody published one: HIPT's authors found too few slides to pretrain it. ``hwsi train align`` trains it against
  reports, and its weights are then named as those of any encoder (``HWSI_WEIGHTS_VIT_WSI_192``).
- Two blocks, three heads, 192 wide, as HIPT's own slide level.

Source: Chen et al. 2022, arXiv 2206.02647 (the level); the attention is ours.
"""

from importlib.resources.abc import Traversable
from pathlib import Path

from hwsi.encoders.cell_slide_cards import VIT_WSI_192
from hwsi.encoders.slide_nano import SparseSlide
from hwsi.encoders.weights import initialise


class VitWsi192(SparseSlide):
    """``forward``: (B, R, 192), bool (B, R), float (B, R, 2) -> (B, 192)."""

    spec = VIT_WSI_192

    def __init__(self) -> None:
        super().__init__(region_dim=192, dim=192, heads=3, hidden=768, depth=2, with_tissue=False)


def build_192(weights: Traversable | Path | None) -> VitWsi192:
    """The encoder with the weights of a file, or with seeded random ones."""
    return initialise(VitWsi192, weights)
