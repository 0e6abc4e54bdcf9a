"""The layout of a feature file: which table holds what, and how a slide's features become tables and back.

- One HDF5 file for each slide; ``docs/artifacts.md`` is the same for readers of other languages.
- Rows of ``features/<encoder>`` stand beside the rows of ``coords``; several encoders stand side by side.
- Features are float32, those of cells float16: there are many, and their tokens mean over them.
- A table gives its rows block by block, so that cells are streamed from disk to disk.

======================  =====================  ======================================================
table                   shape, dtype           what
======================  =====================  ======================================================
/region/coords          (R, 2) int64           top-left corners, level-0 pixels
/region/grid            (R, 2) int64           row and column in the slide's grid of regions
/region/tissue, focus,  (R,) float32           fractions and sharpness in [0, 1]
/region/pen
/region/padded          (R,) bool              reaches over the slide's border
/patch/coords           (N, 2) int64           top-left corners, level-0 pixels
/patch/region           (N,) int64             parent
/patch/row_col          (N, 2) int64           place inside the region
/patch/tissue           (N,) float32           fraction in [0, 1]
/patch/background       (N,) bool              not encoded, its features are zero
/cell/coords            (M, 2) float32         centroids, level-0 pixels
/cell/patch             (M,) int64             parent
/cell/type              (M,) uint8             index into the attribute ``cell_types`` of the file
/cell/type_prob         (M,) float32           probability of that type
/cell/contour_ptr       (M+1,) int64           contour of cell m is rows ptr[m] to ptr[m+1] of:
/cell/contour_xy        (V, 2) float32         vertices, level-0 pixels, not closed
/slide/coords           (1, 2) int64           zero
/tissue/ring_xy         (W, 2) float64         vertices of the tissue's outlines, not closed
/tissue/ring_ptr        (K+1,) int64           ring k is rows ptr[k] to ptr[k+1]
/tissue/polygon         (K,) int64             polygon of each ring; its first is the outline, then holes
/<scale>/features/<id>  (rows, D)              float32, cells float16; attributes name the encoder
======================  =====================  ======================================================
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hwsi.features.slide_features import CellBlock, CellSource, SlideFeatures
from hwsi.hierarchy.tree import CELL_TYPES, Cells, Hierarchy, Patches, Regions

SCHEMA_VERSION = 1
SCALES = ("region", "patch", "cell", "slide")

Array = NDArray[Any]
Attributes = dict[str, int | float | str]


@dataclass(frozen=True)
class Table:
    """One table: ``blocks()`` gives its rows in order, in as many pieces as is handy."""

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    blocks: Callable[[], Iterator[Array]]
    attributes: Attributes = field(default_factory=dict)


def root_attributes(f: SlideFeatures) -> Attributes:
    """The attributes of the file: what slide, which sizes, what made it."""
    h = f.hierarchy
    return {
        "schema_version": SCHEMA_VERSION,
        "slide_id": f.slide_id,
        "slide_name": f.slide_name,
        "width0": h.width0,
        "height0": h.height0,
        "mpp": h.mpp,
        "mpp_source": f.mpp_source,
        "read_mpp": h.read_mpp,
        "region_px": h.region_px,
        "region_size0": h.regions.size0,
        "patch_px": h.patch_px,
        "patch_size0": h.patches.size0,
        "preset": f.preset,
        "cell_types": json.dumps(CELL_TYPES),
        "warnings": json.dumps(f.warnings),
        "tool_version": str(f.provenance.get("hwsi_version", "")),
        "provenance": json.dumps(f.provenance, sort_keys=True),
    }


def tables(f: SlideFeatures, cells: CellSource) -> list[Table]:
    """All tables of a file, in the order in which they are written. The cells are those of ``cells``."""
    h = f.hierarchy
    ring_xy, ring_ptr, polygon = _rings(f)
    found = [
        _table("region/coords", h.regions.xy),
        _table("region/grid", h.regions.grid),
        _table("region/tissue", h.regions.tissue),
        _table("region/focus", h.regions.focus),
        _table("region/pen", h.regions.pen),
        _table("region/padded", h.regions.padded),
        _table("patch/coords", h.patches.xy),
        _table("patch/region", h.patches.region),
        _table("patch/row_col", h.patches.row_col),
        _table("patch/tissue", h.patches.tissue),
        _table("patch/background", h.patches.background),
        _table("slide/coords", np.zeros((1, 2), np.int64)),
        _table("tissue/ring_xy", ring_xy),
        _table("tissue/ring_ptr", ring_ptr),
        _table("tissue/polygon", polygon),
        *_cell_tables(cells),
    ]
    of_encoders: dict[str, Any] = f.provenance.get("encoders", {})
    for scale in ("region", "patch", "slide"):
        for encoder, values in sorted(getattr(f, scale).items()):
            rows = np.atleast_2d(values).astype(np.float32, copy=False)
            found.append(_table(f"{scale}/features/{encoder}", rows, _named(encoder, of_encoders, "float32")))
    for encoder, dim in sorted(cells.dims.items()):
        found.append(_cell_features(encoder, dim, cells, _named(encoder, of_encoders, "float16")))
    return found


def assemble(root: Attributes, arrays: dict[str, Array]) -> SlideFeatures:
    """The features that these attributes and tables hold. KeyError where one is missing."""
    a = arrays
    regions = Regions(
        xy=a["region/coords"],
        size0=int(root["region_size0"]),
        grid=a["region/grid"],
        tissue=a["region/tissue"],
        focus=a["region/focus"],
        pen=a["region/pen"],
        padded=a["region/padded"],
    )
    patches = Patches(
        xy=a["patch/coords"],
        size0=int(root["patch_size0"]),
        region=a["patch/region"],
        row_col=a["patch/row_col"],
        tissue=a["patch/tissue"],
        background=a["patch/background"],
    )
    cells = Cells(
        xy=a["cell/coords"],
        patch=a["cell/patch"],
        contour_ptr=a["cell/contour_ptr"],
        contour_xy=a["cell/contour_xy"],
        type=a["cell/type"].astype(np.int64),
        type_prob=a["cell/type_prob"],
    )
    vectors: dict[str, dict[str, NDArray[np.float32]]] = {scale: {} for scale in SCALES}
    for name, values in a.items():
        scale, _, encoder = name.partition("/features/")
        if encoder:
            rows = values.astype(np.float32, copy=False)
            vectors[scale][encoder] = rows[0] if scale == "slide" else rows
    return SlideFeatures(
        slide_id=str(root["slide_id"]),
        slide_name=str(root["slide_name"]),
        hierarchy=Hierarchy(
            width0=int(root["width0"]),
            height0=int(root["height0"]),
            mpp=float(root["mpp"]),
            region_px=int(root["region_px"]),
            patch_px=int(root["patch_px"]),
            read_mpp=float(root["read_mpp"]),
            regions=regions,
            patches=patches,
            cells=cells,
        ),
        mpp_source=str(root["mpp_source"]),
        preset=str(root["preset"]),
        **vectors,
        tissue=_polygons(a["tissue/ring_xy"], a["tissue/ring_ptr"], a["tissue/polygon"]),
        warnings=tuple(json.loads(str(root["warnings"]))),
        provenance=json.loads(str(root["provenance"])),
    )


def _table(name: str, values: Array, attributes: Attributes | None = None) -> Table:
    return Table(name, values.shape, values.dtype, lambda: iter([values]), attributes or {})


def _named(encoder: str, of_encoders: dict[str, Any], dtype: str) -> Attributes:
    """What the attributes of a table of features tell about its encoder."""
    known = of_encoders.get(encoder, {})
    return {
        "encoder": encoder,
        "revision": str(known.get("revision", "")),
        "weights_sha256": str(known.get("weights_sha256", "")),
        "dtype": dtype,
    }


def _cell_tables(source: CellSource) -> list[Table]:
    m, v = source.cells, source.vertices

    def pointers() -> Iterator[Array]:
        start = 0
        yield np.zeros(1, np.int64)
        for block in source.blocks():
            yield block.cells.contour_ptr[1:] + start
            start += int(block.cells.contour_ptr[-1])

    def table(name: str, shape: tuple[int, ...], dtype: type, pick: Callable[[CellBlock], Array]) -> Table:
        return Table(f"cell/{name}", shape, np.dtype(dtype), _column(source, pick))

    return [
        table("coords", (m, 2), np.float32, lambda block: block.cells.xy),
        table("patch", (m,), np.int64, lambda block: block.cells.patch),
        table("type", (m,), np.uint8, lambda block: block.cells.type.astype(np.uint8)),
        table("type_prob", (m,), np.float32, lambda block: block.cells.type_prob),
        Table("cell/contour_ptr", (m + 1,), np.dtype(np.int64), pointers),
        table("contour_xy", (v, 2), np.float32, lambda block: block.cells.contour_xy),
    ]


def _cell_features(encoder: str, dim: int, source: CellSource, attributes: Attributes) -> Table:
    def pick(block: CellBlock) -> Array:
        return block.features[encoder].astype(np.float16, copy=False)

    name, shape = f"cell/features/{encoder}", (source.cells, dim)
    return Table(name, shape, np.dtype(np.float16), _column(source, pick), attributes)


def _column(source: CellSource, pick: Callable[[CellBlock], Array]) -> Callable[[], Iterator[Array]]:
    return lambda: (pick(block) for block in source.blocks())


def _rings(f: SlideFeatures) -> tuple[Array, Array, Array]:
    """Vertices of all rings, where each begins, and the polygon of each."""
    rings = [ring for polygon in f.tissue for ring in polygon]
    ptr = np.cumsum([0, *(len(ring) for ring in rings)]).astype(np.int64)
    polygon = np.repeat(np.arange(len(f.tissue)), [len(p) for p in f.tissue]).astype(np.int64)
    return np.concatenate([np.zeros((0, 2)), *rings]), ptr, polygon


def _polygons(xy: Array, ptr: Array, polygon: Array) -> tuple[tuple[Array, ...], ...]:
    found: list[list[Array]] = []
    for k, parent in enumerate(polygon):
        if parent == len(found):
            found.append([])
        found[parent].append(xy[ptr[k] : ptr[k + 1]])
    return tuple(tuple(rings) for rings in found)
