"""Which regions a question is about, before the language model reads any: nearness of tissue to words.

- The words are the question's and its options', never those of a report: at inference there is none.
- A region is as near as its nearest patches (what is asked may be a small part of it) and as its own vector, in the
  space where tissue and words meet (``space.py``).
- The choice is facility location weighed by it: the set covers the slide, and what the question is about first.

Notation: R regions, N patches, T texts.
"""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from hwsi.features import SlideFeatures
from hwsi.hierarchy.selection import select_regions
from hwsi.inference.space import Space, load_space

Float64 = NDArray[np.float64]

_NEAREST = 4
"""Patches of a region whose nearness counts."""


def question_relevance(features: SlideFeatures, question: str, choices: Sequence[str] = ()) -> Float64:
    """Relevance (R,) of each region to a question, in standard deviations over the regions.

    Args:
        choices: options; where they differ in what they look like, tissue near one of them tells.

    Errors: as of :func:`hwsi.inference.space.load_space`; features_mismatch.
    """
    space = _space(features.preset)
    texts = space.texts([question, *choices])
    tissue = space.tissue(features)
    near_patch = (tissue.patch @ texts.T).max(1)
    of = features.hierarchy.patches.region
    region = np.full((len(tissue.region), _NEAREST), np.nan)
    for r in range(len(region)):
        best = np.sort(near_patch[of == r])[::-1][:_NEAREST]
        region[r, : len(best)] = best
    score = np.nanmean(region, 1) + (tissue.region @ texts.T).max(1)
    spread = float(score.std())
    return np.asarray((score - score.mean()) / spread if spread > 0 else np.zeros(len(score)))


def guided_regions(features: SlideFeatures, encoder: str, relevance: Float64, budget: int) -> NDArray[np.int64]:
    """At most ``budget`` regions (k,), ascending, that cover the slide and lie near the question."""
    regions = features.hierarchy.regions
    seen = regions.tissue * regions.focus * (1 - regions.pen)
    spread = float(np.ptp(seen))
    quality = (seen - seen.min()) / spread if spread > 0 else np.ones(len(seen))
    return select_regions(quality + relevance, features.region[encoder], budget)


@lru_cache(maxsize=2)
def _space(preset: str) -> Space:
    return load_space(preset, device="cpu")
