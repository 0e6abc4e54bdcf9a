"""A region or a patch by its row: how it is cited, and where it lies."""

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from hwsi.features import SlideFeatures
from hwsi.hierarchy.labels import patch_label, region_label
from hwsi.hierarchy.selection import described

Scale = Literal["region", "patch"]
Box = tuple[int, int, int, int]
"""x0, y0, x1, y1 in level-0 pixels."""


def place_label(features: SlideFeatures, scale: Scale, row: int) -> str:
    """Citable name, such as ``R3`` or ``R3.P7``."""
    tree = features.hierarchy
    if scale == "region":
        return region_label(row)
    at = tree.patches.row_col[row]
    return patch_label(int(tree.patches.region[row]), int(at[0]), int(at[1]), tree.region_px // tree.patch_px)


def place_box(features: SlideFeatures, scale: Scale, row: int) -> Box:
    """Its box, cut at the border of the slide."""
    tree = features.hierarchy
    table = tree.regions if scale == "region" else tree.patches
    low = table.xy[row]
    high = np.minimum(low + table.size0, (tree.width0, tree.height0))
    return int(low[0]), int(low[1]), int(high[0]), int(high[1])


def seen(features: SlideFeatures, scale: Scale, encoder: str) -> NDArray[np.bool_]:
    """Rows that hold something: all regions, and the patches that ``encoder`` has seen; bool."""
    tree = features.hierarchy
    if scale == "region":
        return np.ones(len(tree.regions), bool)
    return described(tree.patches.background, features.patch[encoder])
