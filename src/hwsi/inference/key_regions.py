"""A large slide cut down to the regions that the language model has room for.

- The choice is greedy facility location over region features: in focus, full of tissue, free of pen, and together
  covering what the slide shows. It is made once per slide, before any question.
- Labels count the regions that are read, since the model knows no others; nothing else is renumbered by hand.

Notation: R regions, N patches, M cells of the whole slide.
"""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from hwsi.features import SlideFeatures
from hwsi.hierarchy.selection import select_regions
from hwsi.hierarchy.tree import Cells, Patches, Regions

Int = NDArray[np.int64]
Bool = NDArray[np.bool_]

MAX_REGIONS = 64
"""As many as have a label of their own in the embedded model's tokenizer, and as its 4096 tokens have room for."""


def key_regions(features: SlideFeatures, encoder: str, budget: int = MAX_REGIONS) -> SlideFeatures:
    """The slide with at most ``budget`` of its regions, and with the patches and cells of these.

    Args:
        features: of the whole slide; returned as they are if they fit.
        encoder: id of the region encoder whose features decide.
        budget: how many regions.
    """
    if len(features.hierarchy.regions) <= budget:
        return features
    return restrict(features, cover_regions(features, encoder, budget))


def cover_regions(features: SlideFeatures, encoder: str, budget: int) -> Int:
    """The regions (k,), ascending, that a budget allows, without a question."""
    regions = features.hierarchy.regions
    worth = regions.tissue * regions.focus * (1 - regions.pen)
    return select_regions(worth, features.region[encoder], budget)


def restrict(features: SlideFeatures, chosen: Int) -> SlideFeatures:
    """The slide with only the regions ``chosen`` (k,), ascending."""
    tree = features.hierarchy
    keep_patch = np.isin(tree.patches.region, chosen)
    keep_cell = keep_patch[tree.cells.patch]
    regions = _regions(tree.regions, chosen)
    patches = _patches(tree.patches, keep_patch, chosen)
    cells = _cells(tree.cells, keep_cell, keep_patch)
    return replace(
        features,
        hierarchy=replace(tree, regions=regions, patches=patches, cells=cells),
        region={e: v[chosen] for e, v in features.region.items()},
        patch={e: v[keep_patch] for e, v in features.patch.items()},
        cell={e: v[keep_cell] for e, v in features.cell.items()},
    )


def _regions(r: Regions, chosen: Int) -> Regions:
    rows = {n: getattr(r, n)[chosen] for n in ("xy", "grid", "tissue", "focus", "pen", "padded")}
    return Regions(size0=r.size0, **rows)


def _patches(p: Patches, keep: Bool, chosen: Int) -> Patches:
    rows = {n: getattr(p, n)[keep] for n in ("xy", "row_col", "tissue", "background")}
    return Patches(size0=p.size0, region=np.searchsorted(chosen, p.region[keep]).astype(np.int64), **rows)


def _cells(c: Cells, keep: Bool, keep_patch: Bool) -> Cells:
    lengths = np.diff(c.contour_ptr)
    new_patch = np.cumsum(keep_patch) - 1
    return Cells(
        xy=c.xy[keep],
        patch=new_patch[c.patch[keep]].astype(np.int64),
        contour_ptr=np.concatenate([[0], np.cumsum(lengths[keep])]).astype(np.int64),
        contour_xy=c.contour_xy[np.repeat(keep, lengths)],
        type=c.type[keep],
        type_prob=c.type_prob[keep],
    )
