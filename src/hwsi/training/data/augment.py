"""No visit shows a slide as the last one did: it is turned, and other patches of it stand in the prompt.

- What is drawn follows from (seed, epoch, index) alone, so a run that was stopped goes on with the same views.
- Words follow the tissue: labels (``R3``, ``R3.P7``) and the names of quarters are those of the turned slide.
- Vectors of regions and of the slide stay as they were encoded, though their encoders know places.
"""

import re
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt

from hwsi.features import SlideFeatures
from hwsi.hierarchy.labels import LABEL, parse_patch_label, parse_region_label, patch_label, region_label
from hwsi.hierarchy.tree import Hierarchy
from hwsi.phantom.truth import QUADRANTS
from hwsi.training.nano.symmetry import _flip, turn_features, turn_quarter

_QUARTER = re.compile("|".join(rf"\b{name}\b" for name in QUADRANTS))


class Augmentation(BaseModel):
    """How views of a slide differ; by default they don't.

    Attributes:
        turn: turn and mirror the slide, one of eight ways. Only for texts that say where something lies by labels
            (``R3``) or quarters ("upper left"), and that mean nothing else by such words: an "R1 resection" would
            become another region.
        relevance: chance that a random relevance chooses the patches that are kept, instead of diversity.
        kept: numbers of patches kept of a region, one drawn at each visit; empty for the processor's own.
        hide: now and then hide regions, patches, the slide's token or all of it from the words, as evidence does.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    turn: bool = False
    relevance: float = Field(default=0.0, ge=0, le=1)
    kept: tuple[NonNegativeInt, ...] = ()
    hide: bool = False


PLAIN = Augmentation()
"""As at inference."""


@dataclass(frozen=True)
class View:
    """A slide as one visit sees it.

    Attributes:
        features: of the turned slide.
        code: how it was turned (``training/nano/symmetry.py``).
        relevance: (N,) float32 of its patches, or None. kept: patches of a region, or None for the default.
    """

    features: SlideFeatures
    code: int = 0
    relevance: NDArray[np.float32] | None = None
    kept: int | None = None


def draw_view(features: SlideFeatures, how: Augmentation, rng: np.random.Generator) -> View:
    """One view of a slide."""
    code = int(rng.integers(8)) if how.turn else 0
    seen = turn_features(features, code)[0] if code else features
    relevance = None
    if rng.random() < how.relevance:
        relevance = rng.random(len(seen.hierarchy.patches)).astype(np.float32)
    return View(seen, code, relevance, int(rng.choice(how.kept)) if how.kept else None)


def words_of(text: str, tree: Hierarchy, view: View) -> str:
    """A text about a slide in the labels and quarters of the turned slide.

    Args:
        text: in the labels of ``tree``; of a slide that was not turned it stays as it is.
        tree: of the slide before it was turned.
        view: of the same slide.
    """
    if not view.code:
        return text
    place = {tuple(at): i for i, at in enumerate(view.features.hierarchy.regions.grid.tolist())}
    side = tree.region_px // tree.patch_px

    def label(match: re.Match[str]) -> str:
        old = parse_region_label(match[0])
        if old >= len(tree.regions):
            return match[0]
        new = place[tuple(tree.regions.grid[old].tolist())]
        if match[2] is None:
            return region_label(new)
        _, row, col = parse_patch_label(match[0], side)
        x, y = _flip(np.array([[col, row]]), np.array([side - 1, side - 1]), view.code)[0].tolist()
        return patch_label(new, y, x, side)

    return _QUARTER.sub(lambda m: turn_quarter(m[0], view.code), LABEL.sub(label, text))
