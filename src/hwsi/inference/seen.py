"""A slide that is still being encoded: what its first regions already say.

- Read from the encoder's journal beside the encoder, without its lock: a region's file is whole or not there.
- The vectors of regions and slide are made from what is there, by the encoders that will make them of the whole; so
  nothing is said of tissue that was not read.
- How much was seen is told with every answer.

Notation: R regions of the slide, k of them seen.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import shapely
from numpy.typing import NDArray

from hwsi.encoding.encode import collect, key_of
from hwsi.encoding.journal import Journal
from hwsi.encoding.pixels import plan_regions
from hwsi.encoding.timing import Timings
from hwsi.features import SlideFeatures
from hwsi.features.slide_features import CellBlock
from hwsi.hierarchy.tree import Cells, Hierarchy
from hwsi.inference.key_regions import key_regions, restrict
from hwsi.presets import Preset

if TYPE_CHECKING:
    from hwsi.encoding import Stack
    from hwsi.slide import Slide, Tissue

Int = NDArray[np.int64]


@dataclass(frozen=True)
class Seen:
    """The part of a slide that was read.

    Attributes:
        features: of that part, as if there were no other tissue.
        regions: (k',) int64, which of the slide's regions the model reads of it, ascending.
        done, total: how many regions were read, and how many there are.
        share: of the patches with tissue that were read, in (0, 1].
    """

    features: SlideFeatures
    regions: Int
    done: int
    total: int
    share: float

    @property
    def words(self) -> str:
        """How much was seen, for whoever reads an answer."""
        return (
            f"Seen so far: {100 * self.share:.0f} % of the tissue ({self.done} of {self.total} regions); "
            "the answer may change when the rest is read."
        )


def read_seen(
    slide: "Slide", out: str | Path, found: tuple["Tissue", Hierarchy], *, preset: Preset, stack: "Stack",
    mask: str | Path | None = None,
) -> Seen | None:  # fmt: skip
    """What the journal of an encoding that has not ended holds; None if no region is done, or it has just ended.

    Args:
        slide: open. out: the job folder of ``encode_to_file``.
        found: of :func:`hwsi.encoding.encode.find_tree`. mask: the user's, if that found it.
        preset, stack: that encode it; a preset whose features are fused at the end has no parts.
    """
    if stack.fusion is not None:
        return None
    tissue, tree = found
    key = key_of(slide, preset, stack, mask)
    folder = Path(out) / "partial" / slide.name
    plans = plan_regions(tree)
    journal = Journal(folder, key)
    try:
        if not journal.is_left():
            return None
        done = np.array([p.region for p in plans if journal.peek(p.region, len(p.patches)) is not None], np.int64)
        if not len(done):
            return None
        part = _Part(journal, done, (tree.region_px // tree.patch_px) ** 2)
        cut = _cut(slide, tree, preset, done)
        features = collect(slide, cut, _only(tissue, cut), preset, stack, part, Timings(), f"{key}/{len(done)}")
        features = _with_cells(features, part, len(done))
    except FileNotFoundError:  # it ended meanwhile
        return None
    features = key_regions(features, stack.region.spec.id)
    places = {tuple(at): r for r, at in enumerate(tree.regions.grid.tolist())}
    regions = np.array([places[tuple(at)] for at in features.hierarchy.regions.grid.tolist()], np.int64)
    patches = [len(plan.patches) for plan in plans]
    share = sum(patches[r] for r in done) / sum(patches)
    return Seen(features, regions, len(done), len(plans), share)


class _Part(Journal):
    """The regions of a journal that are done, counted anew."""

    def __init__(self, journal: Journal, done: Int, per_region: int) -> None:
        super().__init__(journal.folder, journal.key)
        self._done, self._per_region = done.tolist(), per_region

    def patch(self, region: int) -> NDArray[np.float32]:
        return super().patch(self._done[region])

    def read(self, region: int) -> NDArray[np.float32]:
        return super().read(self._done[region])

    def block(self, region: int) -> CellBlock:
        whole = super().block(self._done[region])
        shift = (self._done[region] - region) * self._per_region
        return replace(whole, cells=replace(whole.cells, patch=whole.cells.patch - shift))


def _cut(slide: "Slide", tree: Hierarchy, preset: Preset, done: Int) -> Hierarchy:
    """The tree of some of the regions."""
    bare = SlideFeatures(
        slide_id=slide.slide_id, slide_name=slide.name, hierarchy=tree, mpp_source=slide.mpp_source,
        preset=preset.name, patch={}, cell={}, region={}, slide={}, tissue=(), warnings=(), provenance={},
    )  # fmt: skip
    return restrict(bare, done).hierarchy


def _only(tissue: "Tissue", tree: Hierarchy) -> "Tissue":
    """The outlines of tissue inside a tree's regions."""
    side = tree.regions.size0
    read = shapely.unary_union([shapely.box(x, y, x + side, y + side) for x, y in tree.regions.xy.tolist()])
    parts = [p for whole in tissue.polygons for p in shapely.get_parts(whole.intersection(read))]
    return replace(tissue, polygons=[p for p in parts if isinstance(p, shapely.Polygon) and p.area > 0])


def _with_cells(features: SlideFeatures, journal: Journal, regions: int) -> SlideFeatures:
    """The features with the cells of all regions."""
    blocks = [journal.block(region) for region in range(regions)]
    cells = [block.cells for block in blocks]
    ends = np.cumsum([0, *(len(c.contour_xy) for c in cells)])
    joined = Cells(
        xy=np.concatenate([c.xy for c in cells]),
        patch=np.concatenate([c.patch for c in cells]),
        contour_ptr=np.concatenate([[0], *(c.contour_ptr[1:] + e for c, e in zip(cells, ends, strict=False))]).astype(
            np.int64
        ),
        contour_xy=np.concatenate([c.contour_xy for c in cells]),
        type=np.concatenate([c.type for c in cells]),
        type_prob=np.concatenate([c.type_prob for c in cells]),
    )
    names = blocks[0].features
    rows = {name: np.concatenate([b.features[name] for b in blocks]).astype(np.float32) for name in names}
    return replace(features, hierarchy=replace(features.hierarchy, cells=joined), cell=rows)
