"""What the released model reads of a slide: which patches of each region are kept, and their cells, fused.

- Corrected, the default: of each region's patches with tissue those that differ most from one another. Nothing decides
  that is not there for every new slide: no report, no other region, no question.
- As released, to compare with it: the release's own grid, every patch in it encoded, and the patches most like the
  greatest outlier of the slide's first region.
- Every kept patch without cells, and every place that a region has no patch for, is zeros; masks keep them out.

Notation: R regions, N patches, C kept patches of a region, K cells of a patch (padded).
"""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from hwsi.encoders.base import CellFusion
from hwsi.encoding.released_grid import readable, released_regions
from hwsi.encoding.stack import Stack
from hwsi.errors import HwsiError, Reason
from hwsi.features.released import ENCODERS, PATCH_PX, REGION_PX, kept_rows, release_tree, write_released
from hwsi.features.slide_features import CellSource, Rows, SlideFeatures
from hwsi.hierarchy.farthest import filter_as_released
from hwsi.hierarchy.tree import Hierarchy, Int
from hwsi.presets import Preset

if TYPE_CHECKING:
    from hwsi.slide import Slide

PER_REGION = (REGION_PX // PATCH_PX) ** 2
AS_RELEASED = (
    "Regions and patches were chosen as the release's scripts do: pixels of level 0 whatever their size, only the "
    "tissue that their grid meets, background with it."
)
"""What answers from such features say."""


def lay_released(slide: "Slide") -> Hierarchy:
    """The regions that the release reads on a slide, in its order; no patch is background. Raises HwsiError(NO_TISSUE).

    Its order is not reading order, but by outline of tissue, then column by column: the first region counts.
    """
    size0 = (slide.width0, slide.height0)
    corners = released_regions(slide)
    corners = corners[readable(corners, size0)]
    if not len(corners):
        what = f"the release's grid has no region that lies inside {slide.path}"
        raise HwsiError(Reason.NO_TISSUE, what, "encode it without --as-released")
    return release_tree(corners, slide.mpp, size0, np.zeros(len(corners) * PER_REGION, np.bool_))


def with_quadruplet(features: SlideFeatures, cells: CellSource, stack: Stack, preset: Preset) -> SlideFeatures:
    """The features with all that ``features.released.quadruplet`` asks for.

    Args:
        features: of the slide, without fused cells.
        cells: its cells with their vectors.
        stack: the encoders that made them, with a fusion.
        preset: how many patches are kept, and whether as released.

    Returns:
        The same with the fused cells of each kept patch as patch features (N, D), zero elsewhere; which patches were
        kept is in ``provenance["released"]["selected_indices"]`` (R, C), -1 where a region has fewer.
    """
    if stack.fusion is None:
        raise ValueError("nothing fuses the cells of a patch")
    patch = features.patch[stack.patch.spec.id]
    choose = _kept_as_released if preset.as_released else _kept
    kept = choose(features, patch, preset.kept_patches)
    fused = fuse_cells(features.hierarchy, kept, cells, stack.cell.spec.id, stack.fusion, stack.device)
    offsets = features.hierarchy.patches.of_region(len(kept))
    selected = np.where(kept < 0, -1, kept - offsets[:-1, None])
    chosen = {"as_released": preset.as_released, "selected_indices": selected.tolist()}
    return replace(
        features,
        patch={**features.patch, stack.fusion.spec.id: fused},
        warnings=(*features.warnings, *((AS_RELEASED,) if preset.as_released else ())),
        provenance={**features.provenance, "released": chosen},
    )


def fuse_cells(
    tree: Hierarchy, kept: Int, cells: CellSource, encoder_id: str, fusion: CellFusion, device: str = "cpu"
) -> Rows:
    """One vector (N, D) for each kept patch that has cells, zero for all other patches.

    Args:
        tree: of the slide; only its patches are looked at.
        kept: (R, C) rows of patches, -1 for none.
        cells: in order of their patch. encoder_id: of their vectors.
        fusion: of a patch's cells. Batches are of one region, so a vector does not depend on how cells come in blocks.
    """
    out = np.zeros((len(tree.patches), fusion.spec.dim), np.float32)
    wanted = np.zeros(len(tree.patches), np.bool_)
    wanted[kept[kept >= 0]] = True
    for block in cells.blocks():
        ours = np.flatnonzero(wanted[block.cells.patch])
        vectors = block.features[encoder_id][ours].astype(np.float32)
        patches, first, count = np.unique(block.cells.patch[ours], return_index=True, return_counts=True)
        for region in np.unique(tree.patches.region[patches]):
            part = np.flatnonzero(tree.patches.region[patches] == region)
            place = np.arange(count[part].max())
            mask = place < count[part, None]
            batch = vectors[np.where(mask, first[part, None] + place, 0)]
            with torch.inference_mode():
                made = fusion(torch.from_numpy(batch).to(device), torch.from_numpy(mask).to(device))
            out[patches[part]] = made.float().cpu().numpy()
    return out


def write_layout(features: SlideFeatures, folder: Path) -> None:
    """Write the release's files, if these are its encoders and its grid: no other model reads them."""
    tree = features.hierarchy
    held = {*features.slide, *features.region, *features.patch}
    if held >= set(ENCODERS.values()) and len(tree.patches) == PER_REGION * len(tree.regions):
        write_released(features, folder)


def _kept(features: SlideFeatures, patch: Rows, keep: int) -> Int:
    """Rows (R, keep) of patches with tissue, in order of how much each adds; -1 pads."""
    rows = kept_rows(features, patch, keep)
    return np.pad(rows, ((0, 0), (0, keep - rows.shape[1])), constant_values=-1)


def _kept_as_released(features: SlideFeatures, patch: Rows, keep: int) -> Int:
    """Rows (R, keep), by descending similarity to the first region's greatest outlier."""
    r = len(features.hierarchy.regions)
    first = features.hierarchy.patches.of_region(r)[:-1, None]
    return first + filter_as_released(patch.reshape(r, PER_REGION, -1), keep=keep)
