"""The hierarchy of one slide: slide > regions > patches > cells, as immutable numpy arrays.

- Coordinates are level-0 pixels of the top-left corner (cells: of the centroid); ``size0`` is the footprint
  in level-0 pixels and follows from a physical size, never from a nominal magnification.
- Parents are indices; children are found by CSR offsets, since children are stored in order of their parent.
- A patch that is background stays in the tree, marked, so that a region is a full grid; it is never encoded.

Notation: R regions, N patches, M cells, V contour vertices.
"""

from dataclasses import dataclass, fields, replace

import numpy as np
from numpy.typing import NDArray

Int = NDArray[np.int64]
Float = NDArray[np.float32]
Bool = NDArray[np.bool_]

CELL_TYPES = ("neoplastic", "inflammatory", "connective", "dead", "epithelial")
"""The five PanNuke classes: CellViT's, and those that the embedded cell encoder gives."""


def _freeze(obj: object) -> None:
    for f in fields(obj):  # type: ignore[arg-type]
        value = getattr(obj, f.name)
        if isinstance(value, np.ndarray):
            value.setflags(write=False)


@dataclass(frozen=True)
class Regions:
    """Regions of a slide in reading order (rows of the region grid, then columns).

    Attributes:
        xy: (R, 2) int64, top-left corner in level-0 pixels; may lie such that the region ends outside.
        size0: side of a region in level-0 pixels.
        grid: (R, 2) int64, row and column in the region grid anchored at the slide's origin.
        tissue: (R,) float32, fraction of the footprint that is tissue.
        focus: (R,) float32, sharpness in [0, 1]; 0 is out of focus.
        pen: (R,) float32, fraction covered by pen.
        padded: (R,) bool, the region reaches over the slide's border and is padded with white.
    """

    xy: Int
    size0: int
    grid: Int
    tissue: Float
    focus: Float
    pen: Float
    padded: Bool

    def __post_init__(self) -> None:
        _freeze(self)

    def __len__(self) -> int:
        return len(self.xy)


@dataclass(frozen=True)
class Patches:
    """Patches of all regions, in order of their region, then row by row.

    Attributes:
        xy: (N, 2) int64, top-left corner in level-0 pixels.
        size0: side of a patch in level-0 pixels.
        region: (N,) int64, index of the parent region, not decreasing.
        row_col: (N, 2) int64, place inside the region.
        tissue: (N,) float32, fraction of the footprint that is tissue.
        background: (N,) bool, too little tissue: marked, never encoded.
    """

    xy: Int
    size0: int
    region: Int
    row_col: Int
    tissue: Float
    background: Bool

    def __post_init__(self) -> None:
        _freeze(self)

    def __len__(self) -> int:
        return len(self.xy)

    def of_region(self, n_regions: int) -> Int:
        """CSR offsets (R+1,): patches of region r are ``offsets[r]:offsets[r+1]``."""
        return np.searchsorted(self.region, np.arange(n_regions + 1)).astype(np.int64)


@dataclass(frozen=True)
class Cells:
    """Cells of all patches, in order of their patch.

    Attributes:
        xy: (M, 2) float32, centroid in level-0 pixels.
        patch: (M,) int64, index of the patch that holds the centroid, not decreasing.
        contour_ptr: (M+1,) int64, contour of cell m is ``contour_xy[contour_ptr[m]:contour_ptr[m+1]]``.
        contour_xy: (V, 2) float32, vertices in level-0 pixels, not closed (first != last).
        type: (M,) int64, index into :data:`CELL_TYPES`.
        type_prob: (M,) float32, probability of that type.
    """

    xy: Float
    patch: Int
    contour_ptr: Int
    contour_xy: Float
    type: Int
    type_prob: Float

    def __post_init__(self) -> None:
        _freeze(self)

    def __len__(self) -> int:
        return len(self.xy)

    def of_patch(self, n_patches: int) -> Int:
        """CSR offsets (N+1,): cells of patch n are ``offsets[n]:offsets[n+1]``."""
        return np.searchsorted(self.patch, np.arange(n_patches + 1)).astype(np.int64)

    def contour(self, m: int) -> Float:
        """Vertices (v, 2) of cell ``m`` in level-0 pixels."""
        return self.contour_xy[self.contour_ptr[m] : self.contour_ptr[m + 1]]

    @classmethod
    def none(cls) -> "Cells":
        """No cells, with the right shapes."""
        return cls(
            xy=np.zeros((0, 2), np.float32),
            patch=np.zeros(0, np.int64),
            contour_ptr=np.zeros(1, np.int64),
            contour_xy=np.zeros((0, 2), np.float32),
            type=np.zeros(0, np.int64),
            type_prob=np.zeros(0, np.float32),
        )


@dataclass(frozen=True)
class Hierarchy:
    """The tree of one slide.

    Attributes:
        width0, height0: the slide in level-0 pixels.
        mpp: level-0 micrometres per pixel (geometric mean of x and y).
        region_px, patch_px: sides in pixels at ``read_mpp``, what the encoders see.
        read_mpp: micrometres per pixel at which regions and patches are read.
    """

    width0: int
    height0: int
    mpp: float
    region_px: int
    patch_px: int
    read_mpp: float
    regions: Regions
    patches: Patches
    cells: Cells

    def with_cells(self, cells: Cells) -> "Hierarchy":
        """The same tree with other cells."""
        return replace(self, cells=cells)

    def centre_mm(self, xy: NDArray[np.generic], size0: float = 0.0) -> Float:
        """Centres (n, 2) in millimetres from the slide's origin, of boxes with corner ``xy`` and side ``size0``."""
        return ((np.asarray(xy, np.float64) + size0 / 2) * self.mpp / 1000).astype(np.float32)
