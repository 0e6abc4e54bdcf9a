"""Features in the release's layout: ``.pt`` files of a slide, to and from :class:`SlideFeatures`.

======================================  ======================================================================
file below the folder                   what
======================================  ======================================================================
region_4k/NAME.pt                       float32 (R, 192)
wsi/NAME.pt                             float32 (192,), the mean of the regions
patches/NAME.pt                         float32 (R, 256, 512), the full grid of each region, row by row
patches_filtered/NAME.pt                selected_features (R, 16, 512), selected_indices int64 (R, 16)
coords_region4096_valid/NAME.h5         ``coords`` int64 (R, 2), level-0 corners
NAME/encoded_cell_features.pt           (below the folder of cells) encoded_cell_features float32 (R, 16, 384): the
                                        fused cells of each kept patch, zero where it has none;
                                        selected_patch_cell_level_indices, region_coords_level0,
                                        region_has_detail_dump, feature_dim
metadata/NAME.json                      of ours, ``region_size0``: side of a region in level-0 pixels; theirs is
                                        4096
======================================  ======================================================================

- What the layout cannot hold is missing after reading: outlines of tissue and cells, and the pixel size, which the
  caller must know.
- The fused cells are a vector per patch, so they stand among the patches' features. Which patches were kept is in
  ``provenance["released"]["selected_indices"]``.
- Where ``patches/`` is missing, patches that were not kept are background: nobody knows them. In ``patches/`` a zero
  row is background; the release has none, ours do.
- A region with less tissue than there are patches to keep is padded: index -1, zero features.
- Pickles are read with ``weights_only=True``: one that holds code is refused.

Notation: R regions, N patches, C kept patches of a region.
"""

import io
import json
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hwsi.errors import HwsiError, Reason
from hwsi.features.atomic import write_atomic
from hwsi.features.bridges.pt import load_pt
from hwsi.features.slide_features import Rows, SlideFeatures
from hwsi.hierarchy.farthest import KEEP, filter_patches
from hwsi.hierarchy.selection import described
from hwsi.hierarchy.tree import Cells, Hierarchy, Int, Patches, Regions

REGION_PX, PATCH_PX = 4096, 256
ENCODERS = {"slide": "slide-mean", "region": "hipt_vit4k", "patch": "conch_v1", "cell": "ccaf_dino"}
"""Scale -> id under which the release's features stand in :class:`SlideFeatures`; ``cell`` among the patches'."""

_CELLS = "encoded_cell_features"
_TODO = "hand in the folder that the release's feature extraction wrote, whole"


@dataclass(frozen=True)
class Quadruplet:
    """What the released model reads of a slide, all float32.

    Attributes:
        slide: (Ds,). region: (R, Dr). patch: (R, C, Dp), the kept patches; zero rows are padding.
        cell: (R, C, Dc), the fused cells of each; zero where it has none.
    """

    slide: Rows
    region: Rows
    patch: Rows
    cell: Rows


def quadruplet(features: SlideFeatures, encoders: dict[str, str] | None = None, *, keep: int = KEEP) -> Quadruplet:
    """The quadruplet of a slide.

    Args:
        features: with the features of all four scales; the cells' are fused, a vector per patch.
        encoders: scale -> id; the release's by default.
        keep: patches per region, where the features do not say which were kept.

    Errors: features_mismatch (an encoder is missing, or there is no region).
    """
    ids = encoders or ENCODERS
    stored = {"slide": features.slide, "region": features.region, "patch": features.patch, "cell": features.patch}
    for scale, held in stored.items():
        if ids[scale] not in held:
            what = f"features of slide {features.slide_name} have no {scale} features '{ids[scale]}'"
            has = f"{what} (beside {', '.join(sorted(held)) or 'nothing'})"
            raise HwsiError(Reason.FEATURES_MISMATCH, has, "encode the slide with the preset 'released'")
    if not len(features.hierarchy.regions):
        raise HwsiError(Reason.FEATURES_MISMATCH, f"slide {features.slide_name} has no region", "check its tissue")
    rows = kept_rows(features, features.patch[ids["patch"]], keep)
    present = (rows >= 0)[..., None]
    return Quadruplet(
        features.slide[ids["slide"]],
        features.region[ids["region"]],
        np.where(present, features.patch[ids["patch"]][rows], np.float32(0)),
        np.where(present, features.patch[ids["cell"]][rows], np.float32(0)),
    )


def kept_rows(features: SlideFeatures, patch: Rows, keep: int = KEEP) -> Int:
    """Rows of the kept patches of each region, (R, C) int64; -1 pads a region that has fewer.

    Those that the features name; else those that ``hierarchy.farthest`` takes of ``patch`` (N, Dp), at most ``keep``.
    """
    patches = features.hierarchy.patches
    offsets = patches.of_region(len(features.hierarchy.regions))
    named = features.provenance.get("released", {}).get("selected_indices")
    if named is not None:
        inside = np.asarray(named, np.int64)
        return np.where(inside < 0, -1, inside + offsets[:-1, None])
    there = described(patches.background, patch)
    found = []
    for start, end in pairwise(offsets.tolist()):
        rows = start + np.flatnonzero(there[start:end])
        found.append(rows[filter_patches(patch[rows], keep=keep)] if len(rows) else rows)
    out = np.full((len(found), max(map(len, found), default=0)), -1, np.int64)
    for line, rows in zip(out, found, strict=True):
        line[: len(rows)] = rows
    return out


def read_released(
    folder: str | Path,
    name: str,
    *,
    mpp: float,
    cells: str | Path | None = None,
    size0: tuple[int, int] | None = None,
    slide_id: str = "",
) -> SlideFeatures:
    """A slide's features from the release's files.

    Args:
        folder: what its feature extraction wrote. name: of the slide.
        mpp: level-0 micrometres per pixel; no file holds it.
        cells: what its cell step wrote, if that lies elsewhere than in ``folder``; no file, no cell features.
        size0: width and height of the slide in level-0 pixels; by default where the last region ends.
        slide_id: fingerprint of the slide, if known.

    Returns:
        Features with regions in reading order (the release's is by outline, then column by column).

    Errors: features_missing, features_corrupt (damaged, or a pickle that holds code), features_mismatch (files of one
        slide that do not fit together).
    """
    folder = Path(folder)
    region, slide = _tensor(folder / "region_4k" / f"{name}.pt"), _tensor(folder / "wsi" / f"{name}.pt")
    xy = _coordinates(folder / "coords_region4096_valid" / f"{name}.h5")
    filtered = load_pt(folder / "patches_filtered" / f"{name}.pt")
    kept, selected = _entry(filtered, "selected_features", name), _entry(filtered, "selected_indices", name)
    full = folder / "patches" / f"{name}.pt"
    per_region = (REGION_PX // PATCH_PX) ** 2
    shapes = {
        "wsi": (slide.shape, region.shape[1:]),
        "coords": (xy.shape, (len(region), 2)),
        "selected_features": (kept.shape[:2], selected.shape),
        "selected_indices": (selected.shape[:1], region.shape[:1]),
    }
    if not len(region) or region.ndim != 2 or kept.ndim != 3 or any(a != b for a, b in shapes.values()):
        told = ", ".join(f"{key} {a} for {b}" for key, (a, b) in shapes.items())
        raise _mismatch(name, f"regions {region.shape}, {told}")
    if selected.min() < -1 or selected.max() >= per_region:
        raise _mismatch(name, f"selected_indices from {selected.min()} to {selected.max()} in a grid of {per_region}")
    present = selected >= 0
    rows = (selected + np.arange(len(region))[:, None] * per_region)[present]
    patch = np.zeros((len(region) * per_region, kept.shape[2]), np.float32)
    background = np.ones(len(patch), np.bool_)
    if full.is_file():
        grid = _tensor(full)
        if grid.shape != (len(region), per_region, kept.shape[2]):
            raise _mismatch(name, f"patches {grid.shape} for {len(region)} regions")
        patch = grid.reshape(-1, grid.shape[-1])
        background = np.asarray(~patch.any(axis=1), np.bool_).reshape(-1)
    else:
        patch[rows], background[rows] = kept[present], False
    of_patch = {ENCODERS["patch"]: patch}
    file = Path(cells or folder) / name / f"{_CELLS}.pt"
    if file.is_file():
        of_patch[ENCODERS["cell"]] = _scatter(_cells(file, name, selected, xy)[present], rows, len(patch))
    elif cells is not None:
        raise HwsiError(Reason.FEATURES_MISSING, f"there is no {file}", "hand in the folder that its cell step wrote")
    side0 = _side0(folder / "metadata" / f"{name}.json")
    order = np.lexsort((xy[:, 0], xy[:, 1]))
    of_rows = (order[:, None] * per_region + np.arange(per_region)).ravel()
    return SlideFeatures(
        slide_id=slide_id,
        slide_name=name,
        hierarchy=release_tree(xy[order], mpp, size0, background[of_rows], side0),
        mpp_source="user",
        preset="released",
        patch={encoder: values[of_rows] for encoder, values in of_patch.items()},
        cell={},
        region={ENCODERS["region"]: region[order]},
        slide={ENCODERS["slide"]: slide},
        provenance={"released": {"selected_indices": selected[order].tolist()}},
    )


def write_released(features: SlideFeatures, folder: str | Path, *, cells: str | Path | None = None) -> None:
    """Write a slide's features as the release's files, each whole or not there.

    Args:
        features: with the release's encoders (:data:`ENCODERS`) and regions of 16 by 16 patches.
        folder: where. cells: where its cell step's file goes, if not there, too.

    Errors: features_mismatch, output_unwritable, disk_full.
    """
    folder, name, tree = Path(folder), features.slide_name, features.hierarchy
    parts = quadruplet(features)
    offsets = tree.patches.of_region(len(tree.regions))
    per_region = (REGION_PX // PATCH_PX) ** 2
    rows = kept_rows(features, features.patch[ENCODERS["patch"]])
    selected = np.where(rows < 0, -1, rows - offsets[:-1, None])
    if (np.diff(offsets) != per_region).any():
        what = f"the release's layout needs {per_region} patches in every region"
        raise HwsiError(Reason.FEATURES_MISMATCH, f"{name}: {what}", "encode the slide with the preset 'released'")
    r = len(tree.regions)
    _save(folder / "region_4k" / f"{name}.pt", parts.region)
    _save(folder / "wsi" / f"{name}.pt", parts.slide)
    _save(folder / "patches" / f"{name}.pt", features.patch[ENCODERS["patch"]].reshape(r, per_region, -1))
    _save(
        folder / "patches_filtered" / f"{name}.pt",
        {"selected_features": parts.patch, "selected_indices": selected},
    )
    _save(
        Path(cells or folder) / name / f"{_CELLS}.pt",
        {
            _CELLS: parts.cell,
            "selected_patch_cell_level_indices": selected,
            "region_coords_level0": tree.regions.xy,
            "region_has_detail_dump": np.zeros(r, np.bool_),
            "feature_dim": parts.cell.shape[-1],
        },
    )
    about = {"slide": name, "regions": r, "region_size0": tree.regions.size0, "mpp": tree.mpp}
    write_atomic(folder / "metadata" / f"{name}.json", json.dumps(about, sort_keys=True).encode())
    import h5py

    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        file.create_dataset("coords", data=tree.regions.xy, compression="gzip", track_times=False)
    write_atomic(folder / "coords_region4096_valid" / f"{name}.h5", buffer.getvalue())


def release_tree(
    xy: Int,
    mpp: float,
    size0: tuple[int, int] | None,
    background: NDArray[np.bool_],
    side0: int = REGION_PX,
) -> Hierarchy:
    """The tree over the release's regions of 16 by 16 patches.

    Args:
        xy: (R, 2) corners, in the order that the tree gets. background: (256 R,).
        mpp: level-0 micrometres per pixel. size0: as of :func:`read_released`.
        side0: side of a region in level-0 pixels; the release's is 4096 whatever their size.
    """
    per_side = REGION_PX // PATCH_PX
    inside = np.stack(np.divmod(np.arange(per_side**2), per_side), axis=1).astype(np.int64)
    r = len(xy)
    patch0 = side0 / per_side
    width0, height0 = size0 or tuple((xy.max(axis=0) + side0).tolist())
    regions = Regions(
        xy=xy,
        size0=side0,
        grid=xy[:, ::-1] // side0,
        tissue=np.ones(r, np.float32),
        focus=np.ones(r, np.float32),
        pen=np.zeros(r, np.float32),
        padded=np.any(xy + side0 > (width0, height0), axis=1),
    )
    patches = Patches(
        xy=(xy[:, None] + np.rint(inside[:, ::-1] * patch0).astype(np.int64)).reshape(-1, 2),
        size0=round(patch0),
        region=np.repeat(np.arange(r), per_side**2),
        row_col=np.tile(inside, (r, 1)),
        tissue=(~background).astype(np.float32),
        background=background,
    )
    read_mpp = mpp * side0 / REGION_PX
    return Hierarchy(width0, height0, mpp, REGION_PX, PATCH_PX, read_mpp, regions, patches, Cells.none())


def _side0(file: Path) -> int:
    """Side of a region in level-0 pixels."""
    if not file.is_file():
        return REGION_PX
    try:
        told = json.loads(file.read_text("utf-8"))
        side0 = told.get("region_size0", REGION_PX)
    except (ValueError, AttributeError) as error:
        raise HwsiError(Reason.FEATURES_CORRUPT, f"{file} is damaged: {error}", _TODO) from error
    if not isinstance(side0, int) or side0 < 1:
        raise HwsiError(Reason.FEATURES_CORRUPT, f"{file} says that a region is {side0!r} pixels wide", _TODO)
    return side0


def _cells(file: Path, name: str, selected: Int, xy: Int) -> Rows:
    stored = load_pt(file)
    values = _entry(stored, _CELLS, name).astype(np.float32)
    if values.shape[:2] != selected.shape or values.ndim != 3:
        raise _mismatch(name, f"cells {values.shape} for {selected.shape} kept patches")
    for key, expected in (("selected_patch_cell_level_indices", selected), ("region_coords_level0", xy)):
        if not np.array_equal(_entry(stored, key, name), expected):
            raise _mismatch(name, f"{key} of its cells differ from those of its patches")
    return values


def _scatter(values: Rows, rows: Int, count: int) -> Rows:
    out = np.zeros((count, values.shape[-1]), np.float32)
    out[rows] = values
    return out


def _mismatch(name: str, what: str) -> HwsiError:
    return HwsiError(Reason.FEATURES_MISMATCH, f"the files of slide {name} do not fit together: {what}", _TODO)


def _tensor(file: Path) -> Rows:
    value = load_pt(file)
    if not isinstance(value, np.ndarray):
        raise HwsiError(Reason.FEATURES_CORRUPT, f"{file} holds a {type(value).__name__}, not a tensor", _TODO)
    return np.asarray(value, np.float32)


def _entry(stored: Any, key: str, name: str) -> NDArray[Any]:
    if not isinstance(stored, dict) or not isinstance(stored.get(key), np.ndarray):
        raise _mismatch(name, f"no tensor '{key}'")
    return np.asarray(stored[key])


def _coordinates(file: Path) -> Int:
    import h5py

    if not file.is_file():
        raise HwsiError(Reason.FEATURES_MISSING, f"there is no {file}", _TODO)
    try:
        with h5py.File(file) as opened:
            return np.asarray(opened["coords"], np.int64)
    except (OSError, KeyError) as error:
        raise HwsiError(Reason.FEATURES_CORRUPT, f"{file} holds no coords: {error}", _TODO) from error


def _save(file: Path, value: Any) -> None:
    import torch

    def tensors(x: Any) -> Any:
        if isinstance(x, dict):
            return {key: tensors(item) for key, item in x.items()}
        return torch.from_numpy(np.ascontiguousarray(x).copy()) if isinstance(x, np.ndarray) else x

    buffer = io.BytesIO()
    torch.save(tensors(value), buffer)
    write_atomic(file, buffer.getvalue())
