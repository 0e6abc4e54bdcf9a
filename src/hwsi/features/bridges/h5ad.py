"""AnnData's ``.h5ad``, one file for each scale of a slide, written by its published on-disk specification.

- ``X`` is the first encoder's features, further ones stand in ``obsm["X_<encoder>"]``; ``obsm["spatial"]`` has centres
  in level-0 pixels; ``obs`` the parents, tissue and class; ``uns["hwsi"]`` what the slide is and what made all this.
- Written with h5py: the specification is short and stable, a library that pins pandas and zarr is not needed for it,
  rows go to disk piece by piece, and equal features give equal bytes. ``anndata.read_h5ad`` opens it.
- Background patches are left out; ``tile_id`` counts rows of the feature file, with them.

Specification: https://anndata.readthedocs.io/en/stable/fileformat-prose.html
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from hwsi.features.bridges.hdf5 import created
from hwsi.features.slide_features import Rows, SlideFeatures
from hwsi.hierarchy.labels import patch_label, region_label
from hwsi.hierarchy.tree import CELL_TYPES

_CHUNK_BYTES = 1 << 18
_TEXT = h5py.string_dtype("utf-8")
Column = NDArray[Any] | Sequence[str]


class Categories:
    """A column of few different words: ``codes`` (n,) int8 into ``names``, -1 for none."""

    def __init__(self, codes: NDArray[np.int8], names: Sequence[str]) -> None:
        self.codes, self.names = codes, names


def write_h5ad(
    features: SlideFeatures, folder: Path, *, evidence: Mapping[str, Mapping[str, float]] | None = None
) -> list[Path]:
    """Write ``NAME.region.h5ad``, ``NAME.patch.h5ad`` and ``NAME.cell.h5ad``, those that have rows.

    Args:
        evidence: scale -> label -> score of an answer's evidence: then each has a column ``evidence``, zero where
            there is none. Cells have that of their patch's.

    Returns:
        The files, each whole or not there. Errors: output_unwritable, disk_full.
    """
    written = []
    for scale in (_regions, _patches, _cells):
        name, index, obs, spatial, vectors = scale(features)
        if not len(index):
            continue
        if evidence is not None:
            scores = evidence.get(name, {})
            labels = index if name != "cell" else _patch_labels(features, features.hierarchy.cells.patch)
            obs = {**obs, "evidence": np.array([scores.get(label, 0.0) for label in labels], np.float32)}
        path = folder / f"{features.slide_name}.{name}.h5ad"
        with created(path) as file:
            _root(file, index, obs, spatial, vectors, _uns(features))
        written.append(path)
    return written


_Columns = Mapping[str, Column | Categories]
_Scale = tuple[str, Sequence[str], _Columns, NDArray[Any], Mapping[str, Rows]]


def _regions(f: SlideFeatures) -> _Scale:
    regions = f.hierarchy.regions
    obs: _Columns = {
        "region_id": np.arange(len(regions)),
        "tissue": regions.tissue,
        "focus": regions.focus,
        "pen": regions.pen,
    }
    index = [region_label(r) for r in range(len(regions))]
    return "region", index, obs, regions.xy + regions.size0 / 2, f.region


def _patches(f: SlideFeatures) -> _Scale:
    patches = f.hierarchy.patches
    kept = np.flatnonzero(~patches.background)
    index = _patch_labels(f, kept)
    obs: _Columns = {
        "tile_id": kept, "region_id": patches.region[kept], "row": patches.row_col[kept, 0],
        "column": patches.row_col[kept, 1], "tissue": patches.tissue[kept],
    }  # fmt: skip
    vectors = {encoder: rows[kept] for encoder, rows in f.patch.items()}
    return "patch", index, obs, patches.xy[kept] + patches.size0 / 2, vectors


def _patch_labels(f: SlideFeatures, rows: NDArray[np.int64]) -> list[str]:
    patches, columns = f.hierarchy.patches, f.hierarchy.region_px // f.hierarchy.patch_px
    places = zip(patches.region[rows].tolist(), patches.row_col[rows].tolist(), strict=True)
    return [patch_label(region, row, column, columns) for region, (row, column) in places]


def _cells(f: SlideFeatures) -> _Scale:
    cells = f.hierarchy.cells
    kinds = np.where(cells.type_prob > 0, cells.type, -1).astype(np.int8)
    region = f.hierarchy.patches.region[cells.patch]
    obs: _Columns = {
        "tile_id": cells.patch, "region_id": region, "class": Categories(kinds, CELL_TYPES),
        "class_prob": cells.type_prob,
    }  # fmt: skip
    return "cell", [f"C{m + 1}" for m in range(len(cells))], obs, cells.xy, f.cell


def _uns(f: SlideFeatures) -> dict[str, Any]:
    h = f.hierarchy
    return {
        "slide_id": f.slide_id, "slide_name": f.slide_name, "mpp": h.mpp, "mpp_source": f.mpp_source,
        "read_mpp": h.read_mpp, "width0": h.width0, "height0": h.height0, "patch_px": h.patch_px,
        "patch_size0": h.patches.size0, "region_px": h.region_px, "region_size0": h.regions.size0, "preset": f.preset,
        "warnings": json.dumps(f.warnings), "provenance": json.dumps(f.provenance, sort_keys=True),
    }  # fmt: skip


def _root(
    file: h5py.File, index: Sequence[str], obs: Mapping[str, Column | Categories], spatial: NDArray[Any],
    vectors: Mapping[str, Rows], uns: dict[str, Any],
) -> None:  # fmt: skip
    _mark(file, "anndata", "0.1.0")
    names = list(vectors)
    width = vectors[names[0]].shape[1] if names else 0
    if names:
        _array(file, "X", vectors[names[0]])
        uns = {**uns, "X_encoder": names[0]}
    _frame(file, "obs", index, obs)
    _frame(file, "var", [f"{names[0]}_{k}" for k in range(width)] if names else [], {})
    obsm = _group(file, "obsm")
    _array(obsm, "spatial", spatial)
    for name in names[1:]:
        _array(obsm, f"X_{name}", vectors[name])
    for empty in ("layers", "obsp", "varm", "varp"):
        _group(file, empty)
    about = _group(_group(file, "uns"), "hwsi")
    for key, value in uns.items():
        scalar = about.create_dataset(key, data=value, dtype=_TEXT if isinstance(value, str) else None)
        _mark(scalar, "string" if isinstance(value, str) else "numeric-scalar", "0.2.0")


def _frame(parent: h5py.Group, name: str, index: Sequence[str], columns: Mapping[str, Column | Categories]) -> None:
    """A data frame: a group with its index and a table for each column."""
    group = parent.create_group(name)
    _mark(group, "dataframe", "0.2.0")
    group.attrs["_index"] = "_index"
    group.attrs.create("column-order", list(columns), dtype=_TEXT, shape=(len(columns),))
    _texts(group, "_index", index)
    for key, values in columns.items():
        if isinstance(values, Categories):
            inner = group.create_group(key)
            _mark(inner, "categorical", "0.2.0")
            inner.attrs["ordered"] = False
            _array(inner, "codes", values.codes)
            _texts(inner, "categories", values.names)
        else:
            _array(group, key, np.asarray(values))


def _array(parent: h5py.Group, name: str, values: NDArray[Any]) -> None:
    rows = max(1, min(_CHUNK_BYTES // max(1, values[:1].nbytes), len(values)))
    packed = {"chunks": (rows, *values.shape[1:]), "compression": "gzip", "compression_opts": 1} if len(values) else {}
    _mark(parent.create_dataset(name, data=values, track_times=False, **packed), "array", "0.2.0")


def _texts(parent: h5py.Group, name: str, values: Sequence[str]) -> None:
    table = parent.create_dataset(name, data=list(values), shape=(len(values),), dtype=_TEXT, track_times=False)
    _mark(table, "string-array", "0.2.0")


def _group(parent: h5py.Group, name: str) -> h5py.Group:
    group = parent.create_group(name)
    _mark(group, "dict", "0.1.0")
    return group


def _mark(item: Any, kind: str, version: str) -> None:
    item.attrs["encoding-type"], item.attrs["encoding-version"] = kind, version
