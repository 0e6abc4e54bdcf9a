"""What is known of a slide once it is encoded: the tree, and vectors at four scales, row for row.

Notation: R regions, N patches, M cells, D width of an encoder.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hwsi.hierarchy.tree import Cells, Hierarchy

Rows = NDArray[np.float32]
Ring = NDArray[np.float64]


@dataclass(frozen=True)
class SlideFeatures:
    """The tree of a slide and its features, one array for each encoder.

    Attributes:
        slide_id: fingerprint of the slide's content.
        slide_name: file stem.
        hierarchy: the tree.
        mpp_source: where the microns per pixel came from.
        preset: name of the preset.
        patch: encoder id -> (N, D) float32; rows of background patches are zero.
        cell: encoder id -> (M, D) float32.
        region: encoder id -> (R, D) float32.
        slide: encoder id -> (D,) float32.
        tissue: polygons in level-0 pixels, each a tuple of rings (v, 2) float64, not closed: the outline,
            then its holes.
        warnings: what the reader of an answer must know about the slide.
        provenance: plain JSON data. ``hwsi_version``; ``encoders``: id -> scale, revision, weights_sha256,
            licence; ``key``: digest of all that the features depend on besides the slide.
    """

    slide_id: str
    slide_name: str
    hierarchy: Hierarchy
    mpp_source: str
    preset: str
    patch: dict[str, Rows]
    cell: dict[str, Rows]
    region: dict[str, Rows]
    slide: dict[str, Rows]
    tissue: tuple[tuple[Ring, ...], ...] = ()
    warnings: tuple[str, ...] = ()
    provenance: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        h = self.hierarchy
        rows = {"patch": len(h.patches), "cell": len(h.cells), "region": len(h.regions)}
        for scale, count in rows.items():
            for encoder, values in getattr(self, scale).items():
                if values.ndim != 2 or len(values) != count:
                    raise ValueError(f"{scale}/{encoder}: {values.shape} for {count} rows of the tree")
        for encoder, values in self.slide.items():
            if values.ndim != 1:
                raise ValueError(f"slide/{encoder}: {values.shape} is not one vector")


@dataclass(frozen=True)
class CellBlock:
    """Some cells, in order, and their features: a slide's cells are too many to hold twice.

    Attributes:
        cells: with ``patch`` counting over the whole slide and ``contour_ptr`` from zero.
        features: encoder id -> (m, D), float16 or float32.
    """

    cells: Cells
    features: dict[str, NDArray[np.floating[Any]]]


class CellSource:
    """The cells of a slide, block after block, as often as they are asked for.

    Attributes:
        cells, vertices: how many there are in all.
        dims: encoder id -> width of its features.
    """

    cells: int
    vertices: int
    dims: dict[str, int]

    def blocks(self) -> Iterator[CellBlock]:
        """All blocks, in order of their patches."""
        raise NotImplementedError


class CellsInMemory(CellSource):
    """The cells of a :class:`SlideFeatures`, as one block."""

    def __init__(self, features: SlideFeatures) -> None:
        self._block = CellBlock(features.hierarchy.cells, dict(features.cell))
        self.cells = len(features.hierarchy.cells)
        self.vertices = len(features.hierarchy.cells.contour_xy)
        self.dims = {encoder: values.shape[1] for encoder, values in features.cell.items()}

    def blocks(self) -> Iterator[CellBlock]:
        """The one block."""
        yield self._block
