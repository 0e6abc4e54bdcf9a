"""What an encoder may read beside the vectors of the scale below: cells of each patch, tissue of each region.

- A patch's vector is made of its pixels at 0.5 um; what its single nuclei are, their encoder has seen more closely. A
  region encoder whose spec has ``with_cells`` reads a row on the cells of each patch behind the patch's vector.
- How many pieces of tissue there are is seen by no region alone. A slide encoder whose spec has ``with_tissue`` reads
  two columns behind each region's vector: its tissue fraction, and how many pieces lie in it; so pieces add up.

Notation: M cells of D numbers, N patches, R regions, K pieces of tissue.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from hwsi.hierarchy.tree import CELL_TYPES

Rows = NDArray[np.float32]

TISSUE_DIM = 2
_LEAST_PIECE = 0.03  # of the slide's tissue: what is smaller is a crumb
_EPITHELIAL = tuple(CELL_TYPES.index(name) for name in ("neoplastic", "epithelial"))
_INFLAMMATORY = (CELL_TYPES.index("inflammatory"),)


def cells_dim(dim: int) -> int:
    """Width of a row of :func:`summarise_cells` for cells of ``dim`` numbers."""
    return len(CELL_TYPES) + 4 * dim


def summarise_cells(vectors: NDArray[np.floating], types: NDArray[np.int64], patch: NDArray[np.int64], n: int) -> Rows:
    """One row for the cells of each patch; zeros where there are none.

    Args:
        vectors: (M, D). types: (M,), index into ``CELL_TYPES``. patch: (M,) in [0, n), the patch of each cell.
        n: number of patches.

    Returns:
        (n, 5 + 4 D) float32: log(1 + number) of each type, maximum over all cells, mean and standard deviation over
        epithelial cells (neoplastic or not), mean over inflammatory cells.
    """
    x = vectors.astype(np.float64)
    counts = np.zeros((n, len(CELL_TYPES)))
    np.add.at(counts, (patch, types), 1)
    top = np.full((n, x.shape[1]), -np.inf)
    np.maximum.at(top, patch, x)
    top[np.isinf(top)] = 0

    def moments(kinds: tuple[int, ...]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        ours = np.isin(types, kinds)
        number = np.maximum(counts[:, kinds].sum(1, keepdims=True), 1)
        total, square = np.zeros((n, x.shape[1])), np.zeros((n, x.shape[1]))
        np.add.at(total, patch[ours], x[ours])
        np.add.at(square, patch[ours], x[ours] ** 2)
        mean = total / number
        return mean, np.sqrt(np.maximum(square / number - mean**2, 0))

    epithelial, spread = moments(_EPITHELIAL)
    inflammatory, _ = moments(_INFLAMMATORY)
    return np.concatenate([np.log1p(counts), top, epithelial, spread, inflammatory], 1).astype(np.float32)


def summarise_tissue(outlines: Sequence[NDArray[np.float64]], tissue: Rows, xy: NDArray[np.int64], size0: int) -> Rows:
    """Tissue fraction of each region, and how many pieces of tissue lie nearest to it.

    Args:
        outlines: K arrays (v, 2), the outer ring of each piece in level-0 pixels, not closed.
        tissue: (R,), fraction of each region that is tissue.
        xy: (R, 2), corners of the regions in level-0 pixels. size0: their side.

    Returns:
        (R, 2) float32. A piece counts when it holds at least 3 % of the area of all.
    """
    columns = np.zeros((len(xy), TISSUE_DIM), np.float32)
    columns[:, 0] = tissue
    areas = np.array([_area(ring) for ring in outlines])
    for ring, area in zip(outlines, areas, strict=True):
        if area >= _LEAST_PIECE * areas.sum():
            middle = (ring.min(0) + ring.max(0)) / 2
            away = np.square(xy + size0 / 2 - middle).sum(1)
            columns[int(away.argmin()), 1] += 1
    return columns


def _area(ring: NDArray[np.float64]) -> float:
    x, y = ring[:, 0], ring[:, 1]
    return abs(float(x @ np.roll(y, -1) - y @ np.roll(x, -1))) / 2
