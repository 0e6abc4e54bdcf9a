"""A slide as if only some of its regions had been read: its own vector is made anew, of these alone.

- Regions' vectors are made of their own patches, so those of the others are just gone; the slide's vector is made of
  all regions, and one of fewer must not know the rest.
- How many pieces of tissue there are is still known: they are found at low magnification, before any region is read.
"""

from dataclasses import replace
from functools import lru_cache
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray

from hwsi import encoders
from hwsi.encoders.base import SlideEncoder
from hwsi.encoders.summaries import summarise_tissue
from hwsi.features import SlideFeatures
from hwsi.inference.key_regions import restrict


def part_of(features: SlideFeatures, chosen: NDArray[np.int64]) -> SlideFeatures:
    """The slide of which only the regions ``chosen`` (k,), ascending, were read.

    Errors: weights_missing, as of the slide encoder.
    """
    some = restrict(features, chosen)
    tree = some.hierarchy
    # a vector that no encoder made (of a further scale) is not made of tissue: it stays
    (spec,) = (spec for spec in encoders.available("slide") if spec.id in some.slide)
    (region,) = some.region.values()
    if spec.reads:
        there = ~tree.patches.background
        seen, at = some.patch[spec.reads][there], tree.centre_mm(tree.patches.xy[there], tree.patches.size0)
    else:
        seen, at = region, tree.centre_mm(tree.regions.xy, tree.regions.size0)
        if spec.with_tissue:
            outlines = [rings[0] for rings in some.tissue]
            rows = summarise_tissue(outlines, tree.regions.tissue, tree.regions.xy, tree.regions.size0)
            seen = np.concatenate([seen, rows], 1)
    there_all = torch.ones(1, len(seen), dtype=torch.bool)
    vector = _encoder(spec.id).encode(
        torch.from_numpy(np.asarray(seen, np.float32))[None], there_all, torch.from_numpy(np.asarray(at))[None]
    )
    return replace(some, slide=some.slide | {spec.id: vector[0].float().cpu().numpy()})


@lru_cache(maxsize=2)
def _encoder(slide_id: str) -> SlideEncoder:
    return cast(SlideEncoder, encoders.get(slide_id).build("cpu"))
