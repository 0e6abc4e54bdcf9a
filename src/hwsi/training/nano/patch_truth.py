"""What the truth of a slide's patches adds up to: known of every slide, where a class is clear on few.

- A table is ``CohortSlide.patches()``: one row per patch of the grid over the whole slide, glass and all.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from hwsi.phantom.drawing import Compartment
from hwsi.phantom.measure import CONTENTS
from hwsi.phantom.truth import QUADRANTS
from hwsi.training.nano.attributes import PLACED

Table = dict[str, NDArray[Any]]
_MOST = 0.6  # of a patch's tissue is tumour
_TISSUE = 0.1  # of a patch, at least


def _map(table: Table, values: NDArray[Any]) -> NDArray[np.float64]:
    grid = table["grid"]
    found = np.zeros(grid.max(0) + 1)
    found[tuple(grid.T)] = values
    return found


def _tumour(table: Table) -> NDArray[np.float64]:
    """Share of tumour of each patch's tissue, as a map."""
    contents = table["contents"]
    share = contents[:, CONTENTS.index("tumour")] / np.maximum(contents.sum(1), 1e-6)
    return _map(table, share * (table["tissue"] > _TISSUE))


def pieces(table: Table) -> int:
    """Groups of neighbouring patches that are mostly tumour: near to the number of foci, which has margins."""
    return int(ndimage.label(_tumour(table) > _MOST)[1])


def pieces_of_regions(table: Table, grid: NDArray[np.int64], side: int) -> list[int]:
    """The same within each region.

    Args:
        grid: (R, 2), row and column of the regions. side: patches along a region's side.
    """
    tumour = _tumour(table) > _MOST
    squares = (tumour[r * side : (r + 1) * side, c * side : (c + 1) * side] for r, c in grid)
    return [int(ndimage.label(square)[1]) if square.size else 0 for square in squares]


def in_quarters(table: Table) -> dict[str, float]:
    """How much of what there is lies in each quarter of the slide: ``"tumour upper left"`` -> share, or nan.

    A middle row or column belongs half to either side, as in the truth of where something lies.
    """
    areas = table["compartments"]
    stroma = areas[:, Compartment.STROMA] + areas[:, Compartment.DESMOPLASIA]
    amounts = (areas[:, Compartment.NECROSIS], np.nan_to_num(table["til_per_mm2"]) * stroma,
               table["contents"][:, CONTENTS.index("tumour")])  # fmt: skip
    found: dict[str, float] = {}
    for what, amount in zip(PLACED, amounts, strict=True):
        there = _map(table, amount)
        rows, cols = (_halves(n) for n in there.shape)
        shares = rows @ there @ cols.T / there.sum() if there.any() else np.full((2, 2), np.nan)
        found |= {f"{what} {q}": float(v) for q, v in zip(QUADRANTS, shares.ravel(), strict=True)}
    return found


def _halves(n: int) -> NDArray[np.float64]:
    """(2, n): how much of each of n rows belongs to the first and to the second half."""
    second = np.clip(np.arange(1, n + 1) - n / 2, 0, 1)
    return np.stack([1 - second, second])
