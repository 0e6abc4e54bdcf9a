"""Cells of a region: found in its pixels, placed on the slide, given to their patches.

- A cell belongs to the patch that holds its centroid, decided in exact coordinates, so it is counted once
  however regions are cut. Cells in background patches are dropped with them.
"""

import numpy as np

from hwsi.encoders.base import CellEncoder
from hwsi.encoding.pixels import RegionPixels
from hwsi.features.slide_features import CellBlock
from hwsi.hierarchy.tree import Cells


def find_cells(pixels: RegionPixels, encoder: CellEncoder) -> CellBlock:
    """The cells of one region, ordered by patch; features in half precision."""
    spec = encoder.spec
    image, core = pixels.for_cells(spec.mpp or pixels.tree.read_mpp)
    found = encoder.encode(image, pixels.tree.read_mpp * pixels.width / image.shape[1], core)
    if not len(found):
        return CellBlock(Cells.none(), {spec.id: np.zeros((0, spec.dim), np.float16)})

    plan = pixels.plan
    centroid = pixels.to_level0(found.xy, image)
    col, row = ((centroid - plan.origin0) // pixels.patch_side).astype(np.int64).T
    # patch of each place of the box; -1 is background. Rounding may put a centroid just over the core's rim.
    patch_at = np.full((plan.rows, plan.cols), -1, np.int64)
    patch_at[plan.row_col[:, 0], plan.row_col[:, 1]] = plan.patches
    patch = patch_at[np.clip(row - plan.row0, 0, plan.rows - 1), np.clip(col - plan.col0, 0, plan.cols - 1)]
    kept = np.flatnonzero(patch >= 0)
    kept = kept[np.argsort(patch[kept], kind="stable")]

    contours = [pixels.to_level0(found.contours[i], image).astype(np.float32) for i in kept.tolist()]
    cells = Cells(
        xy=centroid[kept].astype(np.float32),
        patch=patch[kept],
        contour_ptr=np.cumsum([0, *(len(c) for c in contours)]).astype(np.int64),
        contour_xy=np.concatenate([np.zeros((0, 2), np.float32), *contours]),
        type=found.type[kept].astype(np.int64),
        type_prob=found.type_prob[kept].astype(np.float32),
    )
    return CellBlock(cells, {spec.id: found.features[kept].astype(np.float16)})
