"""TRIDENT's layout, both ways: ``<mag>x_<px>px_<overlap>px_overlap/`` with HDF5 files of coordinates and features.

================================  ==========================================================================
below that folder                 what
================================  ==========================================================================
patches/NAME_patches.h5           ``coords`` (N, 2) int64, top-left corners, level-0 pixels
features_<encoder>/NAME.h5        ``features`` (N, D), with the attribute ``encoder``; ``coords`` again
slide_features_<encoder>/NAME.h5  ``features`` (D,); ``coords`` again
================================  ==========================================================================

- Attributes stand on ``coords``: patch_size, patch_size_level0, level0_magnification, target_magnification, overlap,
  name, savetodir, level0_width, level0_height; and ``name`` and ``savetodir`` on ``features``.
- Outlines of tissue lie beside that folder in ``contours_geojson/NAME.geojson``.
- Magnifications are nominal there. What we write says beside them what they were snapped from (``mpp_level0``,
  ``mpp_target``), and reading believes that first. So do the parents that we add: ``regions`` and
  ``region_of_patch`` in the file of coordinates.

Notation: N patches that are not background, R regions, D width of an encoder.
"""

import hashlib
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from hwsi.errors import HwsiError, Reason
from hwsi.features.bridges.bag import Bag, Places, check_corners, check_rows, damaged, unlike
from hwsi.features.bridges.hdf5 import array, created, dataset, features, number, opened, size0, text, whole
from hwsi.features.geojson import write_geojson
from hwsi.features.schema import SCHEMA_VERSION
from hwsi.features.slide_features import SlideFeatures
from hwsi.hierarchy.selection import described
from hwsi.hierarchy.tree import Int

_NOMINAL = ((0.16, 80), (0.2, 60), (0.3, 40), (0.6, 20), (1.2, 10), (2.4, 5))
"""Level-0 micrometres per pixel below which TRIDENT takes a slide for one of that magnification."""
_CHUNK_ROWS = 1024


def is_trident(coords: h5py.Dataset) -> bool:
    """Whether these coordinates carry TRIDENT's attributes."""
    return "patch_size" in coords.attrs and (
        "patch_size_level0" in coords.attrs or "target_magnification" in coords.attrs
    )


def read_places(coords: h5py.Dataset, path: Path) -> Places:
    """Where TRIDENT's patches lie. Errors: features_corrupt (no size in level-0 pixels can be had)."""
    told = coords.attrs
    side, px = number(told, "patch_size_level0"), whole(told, "patch_size")
    source, target = number(told, "level0_magnification"), number(told, "target_magnification")
    if side is None and px and source and target:
        side = px * source // target
    if not side or px is None:
        raise damaged(path, "its coords do not say how large the patches are")
    mpp, read_mpp = number(told, "mpp_level0"), number(told, "mpp_target")
    if mpp and read_mpp and abs(px * read_mpp / mpp - side) <= 0.5:
        side = px * read_mpp / mpp
    return Places(
        check_corners(array(coords), path), side, patch_px=px, mpp=mpp, read_mpp=read_mpp, magnification=source,
        size0=size0(told, "level0_width", "level0_height"),
    )  # fmt: skip


def read_trident(path: Path) -> Bag:
    """One file of patch features. Errors: features_missing, features_corrupt, features_mismatch (coordinates only)."""
    with opened(path) as file:
        coords, rows = dataset(file, "coords"), features(file)
        if coords is None or rows is None:
            raise unlike(path, "it holds coordinates and no features", "hand in the file of features beside it")
        encoder = text(rows.attrs, "encoder") or path.parent.name.partition("features_")[2]
        return Bag(
            "trident", path.stem, read_places(coords, path), {encoder: check_rows(array(rows), path, "features")}
        )


def read_trident_folder(folder: Path, name: str) -> Bag:
    """All encoders of a slide in a folder ``<mag>x_<px>px_<overlap>px_overlap`` or in the job folder above it.

    Errors: as of :func:`read_trident`; features_missing, features_mismatch (several such folders have the slide, or
        its files do not hold the same patches).
    """
    inside = [folder] if any(folder.glob("features_*")) else sorted(folder.glob("*x_*px_*px_overlap"))
    having = [one for one in inside if any(one.glob(f"features_*/{_literal(name)}.h5"))]
    if not having:
        raise HwsiError(Reason.FEATURES_MISSING, f"no features_*/{name}.h5 in {folder}", "check --name")
    if len(having) > 1:
        what = f"{name} was cut in several ways: {', '.join(one.name for one in having)}"
        raise unlike(folder, what, "hand in one of these folders")
    bags = [read_trident(file) for file in sorted(having[0].glob(f"features_*/{_literal(name)}.h5"))]
    first = bags[0].places
    assert first is not None
    for other in bags[1:]:
        if other.places is None or not np.array_equal(other.places.xy, first.xy) or other.places.side != first.side:
            raise unlike(having[0], f"its encoders saw other patches of {name}", "hand in one file of features")
    slide = {}
    for file_path in sorted(having[0].glob(f"slide_features_*/{_literal(name)}.h5")):
        with opened(file_path) as file:
            rows = features(file)
            if rows is not None:
                vector = check_rows(array(rows), file_path, "features")
                slide[text(rows.attrs, "encoder") or file_path.parent.name.partition("features_")[2]] = vector[0]
    patch = {encoder: rows for bag in bags for encoder, rows in bag.patch.items()}
    return Bag("trident", name, first, patch, slide)


def write_trident(features: SlideFeatures, folder: Path) -> list[Path]:
    """Write a slide's patches, its vectors and its tissue in TRIDENT's layout; each file whole or not there.

    Background patches are left out, as TRIDENT does, and of an encoder those that it was spared. Regions and cells have
    no place in that layout but as parents.

    Args:
        features: of the slide. folder: TRIDENT's job folder.

    Returns:
        The files. Errors: output_unwritable, disk_full.
    """
    tree = features.hierarchy
    kept = np.flatnonzero(~tree.patches.background)
    target = f"{10 / tree.read_mpp:.4g}"
    cut = folder / f"{target}x_{tree.patch_px}px_0px_overlap"
    xy = tree.patches.xy[kept]
    about: dict[str, Any] = {
        "patch_size": tree.patch_px,
        "patch_size_level0": tree.patches.size0,
        "level0_magnification": next((power for below, power in _NOMINAL if tree.mpp < below), round(10 / tree.mpp, 2)),
        "target_magnification": int(target) if target.isdecimal() else float(target),
        "overlap": 0,
        "name": features.slide_name,
        "savetodir": ".",
        "level0_width": tree.width0,
        "level0_height": tree.height0,
        "mpp_level0": tree.mpp,
        "mpp_target": tree.read_mpp,
        "schema_version": SCHEMA_VERSION,
        "tool_version": str(features.provenance.get("hwsi_version", "")),
        "slide_id": features.slide_id,
    }
    parents = {"regions": tree.regions.xy, "region_of_patch": tree.patches.region[kept]}
    written = [cut / "patches" / f"{features.slide_name}_patches.h5"]
    _write(written[0], {"coords": _corners(xy, about), **{key: (rows, {}) for key, rows in parents.items()}})
    known = features.provenance.get("encoders", {})
    for prefix, vectors in (("", features.patch), ("slide_", features.slide)):
        for encoder, values in vectors.items():
            there = slice(None) if prefix else described(tree.patches.background, values)[kept]
            rows = values if prefix else values[kept][there]
            of_encoder = {
                "name": features.slide_name,
                "savetodir": ".",
                "encoder": encoder,
                "encoder_revision": str(known.get(encoder, {}).get("revision", "")),
                "weights_sha256": str(known.get(encoder, {}).get("weights_sha256", "")),
                "dtype": str(rows.dtype),
            }
            path = cut / f"{prefix}features_{encoder}" / f"{features.slide_name}.h5"
            _write(path, {"features": (rows, of_encoder), "coords": _corners(xy[there], about)})
            written.append(path)
    outlines = folder / "contours_geojson" / f"{features.slide_name}.geojson"
    write_geojson(outlines, features, ("tissue",))
    return [*written, outlines]


def _corners(xy: Int, about: dict[str, Any]) -> tuple[Int, dict[str, Any]]:
    """A table of corners (N, 2) with its attributes and its own digest."""
    return xy, {**about, "grid_sha256": hashlib.sha256(xy.astype("<i8").tobytes()).hexdigest()}


def _write(path: Path, tables: dict[str, tuple[np.ndarray[Any, Any], dict[str, Any]]]) -> None:
    with created(path) as file:
        for name, (rows, attributes) in tables.items():
            # a coordinate may be appended there, so it can grow
            chunks = (max(1, min(_CHUNK_ROWS, len(rows))), *rows.shape[1:])
            table = file.create_dataset(
                name, data=rows, chunks=chunks, maxshape=(None, *rows.shape[1:]), track_times=False
            )
            for key, value in attributes.items():
                table.attrs[key] = value


def _literal(name: str) -> str:
    """``name`` for a glob."""
    return "".join(f"[{c}]" if c in "[*?" else c for c in name)
