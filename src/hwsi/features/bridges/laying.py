"""Patches of another tool as a tree of ours: their patches, at their places, in our regions.

- A patch keeps its own corner. Its region, and its row and column there, are the cell of a grid at the slide's origin
  that holds its centre: so a lattice that begins elsewhere lies at most half a patch off the regions that are shown,
  and how far is told.
- Two patches that do not overlap never share a cell of that grid. Of those that do overlap (a step below the size, or
  pieces of tissue that were cut one by one) the one nearest the cell's middle is taken; how many are not is told.
- Patches that the tool left out are background. Regions are about 2 mm wide and their vector is the mean of their
  patches of the first encoder; the slide's is the mean of the regions: nothing is made up that was not computed.

Notation: N patches of the file, R regions, S patches on a side of a region, D width of an encoder.
"""

import re
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

import hwsi
from hwsi.encoders import registry
from hwsi.errors import HwsiError, Reason
from hwsi.features.bridges.bag import MOST_BYTES, Bag, Places
from hwsi.features.slide_features import Rows, SlideFeatures
from hwsi.hierarchy.tree import Cells, Hierarchy, Int, Patches, Regions

REGION_UM = 2048.0
"""Side of a region, as near as whole patches come to it."""
_SMALLEST_UM, _LARGEST_UM = 16.0, 4096.0
"""A patch outside these is none that an encoder was made for."""
_LEAST_PX, _MOST_PX = 8, 16384
_MOST_ROWS = 20_000_000
_ID = r"[\w.+-]{1,100}"
_SAME = 0.1
"""Resolutions within this of one another are one: magnifications are nominal."""


def lay(
    bag: Bag, *, mpp: float, mpp_source: str, size0: tuple[int, int] | None = None, slide_id: str = "",
    warnings: tuple[str, ...] = (), per_side: int | None = None,
) -> SlideFeatures:  # fmt: skip
    """The features of a slide with the patches of a bag.

    Args:
        bag: with places, their side, and a name for each encoder.
        mpp, mpp_source: micrometres per pixel of level 0, and who said so.
        size0: of the slide, if it is at hand. slide_id: its fingerprint.
        warnings: what is known to be uncertain.
        per_side: patches on a side of a region; by default a region is about 2 mm wide.

    Errors: features_mismatch (what cannot be laid: no places, no size, another slide, patches of no believable size);
        no_tissue (no patches); encoder_unknown (no name for an encoder, or one of another scale).
    """
    places, side = _in_pixels(bag, mpp)
    xy = np.rint(places.xy).astype(np.int64)
    size0 = _size0(bag, places, xy, side, size0)
    patch = {_encoder(name, rows, bag): rows for name, rows in bag.patch.items()}
    if len(patch) != len(bag.patch):
        raise _unfit(bag, "two of its encoders are one under two names", "hand in one of them")
    per_side = per_side or max(1, round(REGION_UM / (side * mpp)))
    cell = np.floor((places.xy + side / 2) / side).astype(np.int64)[:, ::-1]
    kept, off = _one_for_each(cell, places.xy, side)
    grid, region = np.unique(cell[kept] // per_side, axis=0, return_inverse=True)
    rows = len(grid) * per_side**2
    widest = max(values.shape[1] for values in patch.values())
    if rows > _MOST_ROWS or rows * widest * 4 > MOST_BYTES:
        raise _unfit(bag, f"its {len(xy)} patches lie in {len(grid)} regions far apart", "check its coordinates")
    at = cell[kept] % per_side
    row = region.reshape(-1) * per_side**2 + at[:, 0] * per_side + at[:, 1]
    tree = _tree(
        places, xy[kept], row, grid, side, per_side, mpp, size0, None if places.tissue is None else places.tissue[kept]
    )
    on_grid = {encoder: _scatter(values[kept], row, rows) for encoder, values in patch.items()}
    first = next(iter(on_grid))
    regions = _means(on_grid[first], ~tree.patches.background, len(grid))
    told = [*warnings, f"patch features come from {bag.layout}; focus and pen marks were not looked at"]
    told += _told(bag, places, side, mpp, len(xy) - len(kept), off)
    of_slide = {name: vector for name, vector in bag.slide.items() if re.fullmatch(_ID, name)}
    known = {scale: _specs(names) for scale, names in (("patch", on_grid), ("slide", of_slide))}
    means = {name: {**_specs([name])[name], "of": first} for name in ("region-mean", "slide-mean")}
    return SlideFeatures(
        slide_id=slide_id, slide_name=bag.name, hierarchy=tree, mpp_source=mpp_source, preset="imported",
        patch=on_grid, cell={}, region={"region-mean": regions},
        slide={"slide-mean": regions.mean(axis=0), **of_slide},
        warnings=tuple(told),
        provenance={
            "hwsi_version": hwsi.__version__,
            "encoders": {**known["patch"], **known["slide"], **means},
            "imported": {
                "layout": bag.layout, "patches": len(xy), "overlapping": len(xy) - len(kept), "off_px0": round(off, 2),
            },
        },
    )  # fmt: skip


def _in_pixels(bag: Bag, mpp: float) -> tuple[Places, float]:
    """Places in level-0 pixels, and the exact side of a patch."""
    places = bag.places
    if places is None:
        raise _unfit(bag, "it holds no coordinates", "hand in with --coords the file that says where its patches lie")
    for encoder, values in bag.patch.items():
        if len(values) != len(places):
            what = f"{len(values)} features{' of ' + encoder if encoder else ''} for {len(places)} coordinates"
            raise _unfit(bag, what, "hand in features and coordinates of one run")
    if not len(places):
        raise HwsiError(
            Reason.NO_TISSUE, f"{bag.name}: its file holds no patches", "run the tool again, or encode the slide"
        )
    if places.side is None:
        what = "no file says how wide its patches are"
        raise _unfit(bag, what, "hand in the file of coordinates with --coords, or give --patch-size0")
    if places.unit == "um":
        places = replace(places, xy=places.xy / mpp, side=places.side / mpp, unit="px0")
    side = float(places.side or 0)
    if not _SMALLEST_UM <= side * mpp <= _LARGEST_UM:
        what = f"a patch of {side:g} level-0 pixels of {mpp:g} um would be {side * mpp:.4g} um wide"
        raise _unfit(bag, what, "check --mpp, and --patch-size0 if it was given")
    if not _LEAST_PX <= (places.patch_px or _LEAST_PX) <= _MOST_PX:
        raise _unfit(bag, f"it says that a patch was read as {places.patch_px} pixels", "hand in a whole file")
    return places, side


def _size0(bag: Bag, places: Places, xy: Int, side: float, size0: tuple[int, int] | None) -> tuple[int, int]:
    if size0 is not None and places.size0 is not None and size0 != places.size0:
        what = f"it is of a slide of {places.size0[0]} x {places.size0[1]} px, this one has {size0[0]} x {size0[1]}"
        raise _unfit(bag, what, "hand in the slide that it was made of")
    known = size0 or places.size0
    if known is None:
        width, height = (int(n) for n in xy.max(axis=0) + round(side))
        return width, height
    if (xy >= known).any():
        outside = int((xy >= known).any(axis=1).sum())
        what = f"{outside} of {len(xy)} patches lie outside the slide of {known[0]} x {known[1]} px"
        raise _unfit(bag, what, "hand in the slide that it was made of")
    return known


def _one_for_each(cell: Int, xy: NDArray[np.float64], side: float) -> tuple[Int, float]:
    """Which patches are taken, one for each cell of the grid, and how far the farthest lies off its cell."""
    off = np.abs(xy - cell[:, ::-1] * side).max(axis=1)
    order = np.lexsort((off, cell[:, 1], cell[:, 0]))
    ordered = cell[order]
    first = np.concatenate([[True], (ordered[1:] != ordered[:-1]).any(axis=1)])
    kept = np.sort(order[first])
    return kept, float(off[kept].max())


def _tree(
    places: Places, xy: Int, row: Int, grid: Int, side: float, per_side: int, mpp: float, size0: tuple[int, int],
    tissue: Rows | None,
) -> Hierarchy:  # fmt: skip
    """Full grids of patches over the regions that hold some."""
    r, per_region = len(grid), per_side**2
    inside = np.stack(np.divmod(np.arange(per_region), per_side), axis=1).astype(np.int64)
    absolute = (grid[:, None] * per_side + inside).reshape(-1, 2)
    corners = np.rint(absolute[:, ::-1] * side).astype(np.int64)
    corners[row] = xy
    background = np.ones(r * per_region, np.bool_)
    background[row] = False
    fraction = np.zeros(r * per_region, np.float32)
    fraction[row] = 1 if tissue is None else tissue
    region_xy = np.rint(grid[:, ::-1] * (per_side * side)).astype(np.int64)
    region_size0 = round(per_side * side)
    patch_px = places.patch_px or max(1, round(side))
    regions = Regions(
        xy=region_xy, size0=region_size0, grid=grid.astype(np.int64),
        tissue=fraction.reshape(r, -1).mean(axis=1, dtype=np.float32), focus=np.ones(r, np.float32),
        pen=np.zeros(r, np.float32), padded=np.any(region_xy + region_size0 > size0, axis=1),
    )  # fmt: skip
    patches = Patches(
        xy=corners, size0=max(1, round(side)), region=np.repeat(np.arange(r, dtype=np.int64), per_region),
        row_col=np.tile(inside, (r, 1)), tissue=fraction, background=background,
    )  # fmt: skip
    read_mpp = mpp * side / patch_px
    return Hierarchy(*size0, mpp, per_side * patch_px, patch_px, read_mpp, regions, patches, Cells.none())


def _told(bag: Bag, places: Places, side: float, mpp: float, overlapping: int, off: float) -> list[str]:
    """What the reader of an answer must know of the way in which the patches were laid."""
    told = []
    if off > 1:
        told.append(f"patches lie up to {off:.0f} level-0 pixels off the grid of regions, as {bag.layout} cut them")
    if overlapping:
        told.append(f"{overlapping} of {len(places)} patches overlap with others and are left out")
    if places.read_mpp and places.patch_px:
        seen = mpp * side / places.patch_px
        if abs(seen / places.read_mpp - 1) > _SAME:
            told.append(f"{bag.layout} says that it read {places.read_mpp:g} um/px; its patches are {seen:.3g} um/px")
    return told


def _encoder(name: str, rows: Rows, bag: Bag) -> str:
    """The id of an encoder by any of its spellings; one that the registry does not know keeps its name."""
    if not name:
        todo = "name it with --encoder; 'hwsi models' lists those that are known"
        raise HwsiError(Reason.ENCODER_UNKNOWN, f"{bag.name}: no file says which encoder made its features", todo)
    if not re.fullmatch(_ID, name):
        raise HwsiError(Reason.ENCODER_UNKNOWN, f"no encoder can be called {name!r}", "name it with --encoder")
    try:
        spec = registry.get(name)
    except HwsiError:
        return name
    if spec.scale != "patch":
        raise HwsiError(
            Reason.ENCODER_UNKNOWN, f"{spec.id} does not encode patches but a {spec.scale}", "check --encoder"
        )
    if spec.dim and spec.dim != rows.shape[1]:
        raise _unfit(
            bag, f"features of {spec.id} have {spec.dim} numbers, these have {rows.shape[1]}", "check --encoder"
        )
    return spec.id


def _specs(names: Any) -> dict[str, dict[str, str]]:
    """What the provenance tells of encoders: whose weights made these features is not known."""
    found = {}
    for name in names:
        try:
            spec = registry.get(name)
            found[name] = {"scale": spec.scale, "revision": "", "weights_sha256": "", "licence": spec.licence}
        except HwsiError:
            found[name] = {"scale": "", "revision": "", "weights_sha256": "", "licence": ""}
    return found


def _scatter(values: Rows, row: Int, count: int) -> Rows:
    out = np.zeros((count, values.shape[1]), np.float32)
    out[row] = values
    return out


def _means(rows: Rows, present: NDArray[np.bool_], regions: int) -> Rows:
    """Mean of the patches of each region that are there, (R, D); absent rows are zero."""
    counts = present.reshape(regions, -1).sum(axis=1, keepdims=True)
    return np.asarray(rows.reshape(regions, -1, rows.shape[1]).sum(axis=1) / counts, np.float32)


def _unfit(bag: Bag, what: str, todo: str) -> HwsiError:
    return HwsiError(Reason.FEATURES_MISMATCH, f"{bag.name}: {what}", todo)
