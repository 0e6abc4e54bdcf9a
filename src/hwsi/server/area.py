"""A question about a part of the slide: the model reads what was drawn around, and nothing else.

- Patches outside become background; the vectors of regions and slide, which are made of patches, are made again from
  those inside, by the encoders that made them. So nothing outside speaks.
- Labels of a cut slide would count its regions anew: they are turned back into those of the whole slide, in the words
  as they stream and in the evidence.

Notation: R regions of the slide, k of them in the area.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from shapely import Polygon, box, get_parts, intersects, make_valid, points

from hwsi.encoders.summaries import summarise_cells, summarise_tissue
from hwsi.encoding.regions import encode_region_tokens
from hwsi.errors import HwsiError, Reason
from hwsi.features import SlideFeatures
from hwsi.hierarchy.labels import LABEL
from hwsi.hierarchy.tree import Hierarchy
from hwsi.inference.answer import Answer
from hwsi.inference.key_regions import restrict
from hwsi.presets import Preset

if TYPE_CHECKING:
    from hwsi.encoding import Stack

Area = tuple[tuple[float, float], ...]
"""Corners of a polygon in level-0 pixels."""

Bool = NDArray[np.bool_]
_HALF = re.compile(r"R\d*(?:\.P?\d*)?$")
"""What may be the beginning of a label."""


@dataclass(frozen=True)
class Inside:
    """What lies in an area.

    Attributes:
        patches: (N,) bool, of the tree's patches. regions: (k,) int64, the regions that hold them.
    """

    patches: Bool
    regions: NDArray[np.int64]


def inside(tree: Hierarchy, area: Area) -> Inside:
    """Patches with tissue whose centre lies in an area, or, of an area smaller than a patch, those that it touches.

    Raises:
        HwsiError: OPTION_INVALID (no area), NO_TISSUE.
    """
    shape = make_valid(Polygon(area))
    if shape.area <= 0:
        raise HwsiError(Reason.OPTION_INVALID, "the polygon encloses nothing", "draw around some tissue")
    patches = tree.patches
    there = ~patches.background & intersects(shape, points(patches.xy + patches.size0 / 2))
    if not there.any():
        corners = patches.xy.astype(np.float64)
        squares = box(*corners.T, *(corners + patches.size0).T)
        there = ~patches.background & intersects(shape, squares)
    if not there.any():
        raise HwsiError(Reason.NO_TISSUE, "there is no tissue in the drawn area", "draw around some tissue")
    return Inside(there, np.unique(patches.region[there]))


def restricted(features: SlideFeatures, area: Area, preset: Preset, stack: "Stack") -> SlideFeatures:
    """The slide as if there were tissue in the area alone.

    Args:
        features: of the regions that the model reads.
        area: the polygon.
        preset, stack: what encoded the slide.

    Raises:
        HwsiError: as of :func:`inside`; OPTION_INVALID (a preset whose slides cannot be cut).
    """
    spec, slide_spec = stack.region.spec, stack.slide.spec
    if preset.encoders.fusion or slide_spec.reads or len(stack.patches) > 1:
        what = f"preset {preset.name} cannot be asked about a part of a slide"
        raise HwsiError(Reason.OPTION_INVALID, what, "ask about the whole slide")
    found = inside(features.hierarchy, area)
    cut = restrict(_only(features, found.patches), found.regions)
    tree = cut.hierarchy
    rows = cut.patch[stack.patch.spec.id]
    if spec.with_cells:
        cells = cut.cell[stack.cell.spec.id]
        about = summarise_cells(cells, tree.cells.type, tree.cells.patch, len(tree.patches))
        rows = np.concatenate([rows, about], 1)
    region = encode_region_tokens(tree, rows, preset, stack)
    seen = region
    if slide_spec.with_tissue:
        regions = tree.regions
        outlines = _pieces(cut, area)
        columns = summarise_tissue(outlines, regions.tissue, regions.xy, regions.size0)
        seen = np.concatenate([region, columns], 1)
    with torch.inference_mode():
        whole = stack.slide.encode(
            torch.from_numpy(seen)[None].to(stack.device),
            torch.ones(1, len(seen), dtype=torch.bool, device=stack.device),
            torch.from_numpy(tree.centre_mm(tree.regions.xy, tree.regions.size0))[None].to(stack.device),
        )[0]
    return replace(cut, region={spec.id: region}, slide={slide_spec.id: whole.float().cpu().numpy()})


def _pieces(features: SlideFeatures, area: Area) -> list[NDArray[np.float64]]:
    """Outlines (v, 2) of the pieces of tissue in an area, not closed."""
    shape = make_valid(Polygon(area))
    parts = [p for rings in features.tissue for p in get_parts(make_valid(Polygon(rings[0])).intersection(shape))]
    return [np.asarray(p.exterior.coords)[:-1, :2] for p in parts if isinstance(p, Polygon) and p.area > 0]


def _only(features: SlideFeatures, keep: Bool) -> SlideFeatures:
    """All patches but those of ``keep`` (N,) without tissue, features and cells."""
    tree = features.hierarchy
    patches = replace(
        tree.patches,
        background=~keep,
        tissue=np.where(keep, tree.patches.tissue, 0).astype(np.float32),
    )
    per_region = len(tree.patches) // len(tree.regions)
    share = patches.tissue.reshape(-1, per_region).mean(1).astype(np.float32)
    cells, stay = tree.cells, keep[tree.cells.patch]
    lengths = np.diff(cells.contour_ptr)
    kept = replace(
        cells,
        xy=cells.xy[stay],
        patch=cells.patch[stay],
        contour_ptr=np.concatenate([[0], np.cumsum(lengths[stay])]).astype(np.int64),
        contour_xy=cells.contour_xy[np.repeat(stay, lengths)],
        type=cells.type[stay],
        type_prob=cells.type_prob[stay],
    )
    return replace(
        features,
        hierarchy=replace(tree, regions=replace(tree.regions, tissue=share), patches=patches, cells=kept),
        patch={name: np.where(keep[:, None], rows, 0).astype(np.float32) for name, rows in features.patch.items()},
        cell={name: rows[stay] for name, rows in features.cell.items()},
    )


class Labels:
    """From the labels of a cut slide to those of the whole one."""

    def __init__(self, regions: NDArray[np.int64]) -> None:
        self._regions = regions

    def text(self, words: str) -> str:
        """All labels in some words turned; one that the cut slide does not have stays."""
        return LABEL.sub(lambda found: self._turned(found.group(1), found.group(2)), words)

    def answer(self, answer: Answer) -> Answer:
        """An answer with the labels of the whole slide."""
        pieces = tuple(replace(e, label=self.text(e.label), supports=self.text(e.supports)) for e in answer.evidence)
        warnings = tuple(self.text(w) for w in answer.warnings)
        return replace(answer, text=self.text(answer.text), evidence=pieces, warnings=warnings)

    def _turned(self, region: str, patch: str | None) -> str:
        number = int(region)
        name = f"R{self._regions[number - 1] + 1}" if number <= len(self._regions) else f"R{region}"
        return name if patch is None else f"{name}.P{patch}"


class TurnedStream:
    """Gives pieces of text on with labels turned, if they must be; what may be half a label waits for the rest."""

    def __init__(self, labels: Labels | None, stream: Callable[[str], None]) -> None:
        self._labels, self._stream = labels, stream
        self._held = ""

    def __call__(self, piece: str) -> None:
        """Take a piece."""
        if self._labels is None:
            self._stream(piece)
            return
        text = self._held + piece
        half = _HALF.search(text)
        cut = half.start() if half else len(text)
        self._held = text[cut:]
        if cut:
            self._stream(self._labels.text(text[:cut]))

    def end(self) -> None:
        """Nothing more comes."""
        if self._held and self._labels is not None:
            self._stream(self._labels.text(self._held))
        self._held = ""
