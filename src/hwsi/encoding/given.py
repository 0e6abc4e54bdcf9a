"""Patches that another tool encoded: their vectors are taken, and only what is missing is computed.

- Patches keep the places at which the tool cut them, in the preset's regions (``features.bridges.laying``). Tissue,
  focus, pen, cells, regions and the slide are computed from the pixels; so are the vectors of patch encoders that the
  preset needs and the tool did not use, each patch at its own corner.
- What the tool left out is background. Patches must be as wide as the preset's: else its encoders would see another
  scale than the one that they were made for.
"""

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hwsi.errors import HwsiError, Reason
from hwsi.features.bridges.bag import Bag
from hwsi.features.bridges.laying import lay
from hwsi.features.bridges.reading import read_bag
from hwsi.features.slide_features import Rows
from hwsi.hierarchy.tree import Hierarchy
from hwsi.presets import Preset

if TYPE_CHECKING:
    from hwsi.slide import Slide, Tissue

_AS_WIDE = 0.01
"""Patch sides that differ by less are one: tools round to whole pixels."""


@dataclass(frozen=True)
class Given:
    """What a tool left of one slide.

    Attributes:
        bag: its patches and vectors.
        digest: of all of it.
    """

    bag: Bag
    digest: str


@dataclass(frozen=True)
class Laid:
    """Given patches as a tree.

    Attributes:
        tree: with tissue, focus and pen of the slide.
        rows: encoder -> (N, D) float32, zero for background.
        encoders: encoder -> what the provenance says of it.
        warnings: what a reader must know.
        provenance: layout, patches, how many overlap, how far they lie off the grid.
    """

    tree: Hierarchy
    rows: dict[str, Rows]
    encoders: dict[str, dict[str, Any]]
    warnings: tuple[str, ...]
    provenance: dict[str, Any]


def find_given(path: Path, name: str, encoder: str | None = None) -> Given | None:
    """What a file, or a folder of a tool, holds of a slide; None where a folder has nothing of it.

    Args:
        path: of any format that ``features.bridges.reading.read_bag`` knows.
        name: of the slide.
        encoder: what made the vectors, where the files do not say.

    Raises:
        HwsiError: what ``read_bag`` says; FEATURES_MISMATCH for a file of another slide.
    """
    try:
        bag = read_bag(path, name=name if path.is_dir() else None)
    except HwsiError as error:
        if path.is_dir() and error.reason is Reason.FEATURES_MISSING:
            return None
        raise
    if bag.name != name:
        what = f"{path} holds patches of {bag.name}, and the slide is called {name}"
        raise HwsiError(Reason.FEATURES_MISMATCH, what, "hand in the file of this slide, or the folder")
    if encoder is not None and list(bag.patch) == [""]:
        bag = replace(bag, patch={encoder: bag.patch[""]})
    return Given(bag, _digest(bag))


def lay_given(given: Given, slide: "Slide", tissue: "Tissue", preset: Preset) -> Laid:
    """The tree of a slide with the patches that are given.

    Raises:
        HwsiError: FEATURES_MISMATCH (of another slide, or patches of another width than the preset's), what
            ``features.bridges.laying.lay`` says.
    """
    from hwsi.slide import region_focus

    bag, places = given.bag, given.bag.places
    if places is not None and places.side is not None:
        wide = places.side * (slide.mpp if places.unit == "px0" else 1.0)
        wanted = preset.patch_px * preset.read_mpp
        if abs(wide / wanted - 1) > _AS_WIDE:
            what = f"{bag.name}: its patches are {wide:.4g} um wide, those of preset {preset.name} {wanted:g} um"
            raise HwsiError(Reason.FEATURES_MISMATCH, what, "take them as they are with hwsi import-features")
        bag = replace(bag, places=replace(places, patch_px=preset.patch_px))
    made = lay(
        bag, mpp=slide.mpp, mpp_source=slide.mpp_source, size0=(slide.width0, slide.height0), slide_id=slide.slide_id,
        per_side=preset.region_px // preset.patch_px,
    )  # fmt: skip
    old = made.hierarchy
    seen = tissue.fraction(old.patches.xy, old.patches.size0)
    regions = replace(
        old.regions,
        tissue=tissue.fraction(old.regions.xy, old.regions.size0),
        focus=np.asarray(region_focus(slide, old.regions.xy, old.regions.size0), np.float32),
        pen=tissue.fraction(old.regions.xy, old.regions.size0, "pen"),
    )
    tree = replace(old, regions=regions, patches=replace(old.patches, tissue=seen))
    facts = dict(made.provenance["imported"])
    told = [f"patches and their vectors ({', '.join(made.patch)}) come from {bag.layout}"]
    if facts["off_px0"] > 1:
        told.append(f"patches lie up to {facts['off_px0']:.0f} level-0 pixels off the grid of regions")
    if facts["overlapping"]:
        told.append(f"{facts['overlapping']} of {facts['patches']} patches overlap with others and are left out")
    encoders = {name: about for name, about in made.provenance["encoders"].items() if name in made.patch}
    return Laid(tree, made.patch, encoders, tuple(told), facts)


def _digest(bag: Bag) -> str:
    places = bag.places
    parts = [repr((bag.layout, sorted(bag.patch), places and (places.side, places.unit))).encode()]
    parts += [np.ascontiguousarray(bag.patch[name]).tobytes() for name in sorted(bag.patch)]
    parts += [] if places is None else [np.ascontiguousarray(places.xy).tobytes()]
    return hashlib.sha256(b"".join(hashlib.sha256(part).digest() for part in parts)).hexdigest()
