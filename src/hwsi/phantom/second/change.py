"""What the second edition does to a drawing before or after it is painted, so that one thing changes and nothing else.

- Mitotic figures change places with resting tumour nuclei: the layout, the number of figures and of nuclei stay, only
  the part of the tumour in which cells divide is another. So where they divide is free of how much tumour is solid.
- Inflammatory cells are taken out of the stroma of all regions but one, until that one has most of them: a region with
  necrosis or one without. So which region is densest is free of where the necrosis is.
- A slide is mirrored as a whole, pixels and truth: every patch and cell stays what it is, only places change. So where
  something lies is free of what it is.
"""

from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from hwsi.phantom.canvas import Stage
from hwsi.phantom.drawing import CellKind, Compartment, Drawing
from hwsi.phantom.measure import (
    PATCH_UM,
    PATTERNS,
    REGION_UM,
    STEP_UM,
    Sums,
    derive_maps,
    grid_shape,
    patch_sums,
)

PARTS: dict[str, tuple[str, ...]] = {"solid": ("solid",), "tubular": ("glandular", "cribriform")}
"""Part of a tumour -> growth patterns that are it."""
_STROMA = (Compartment.STROMA, Compartment.DESMOPLASIA, Compartment.MUSCLE)
_INFLAMMATORY = (CellKind.LYMPHOCYTE, CellKind.PLASMA)
_NECROSIS_UM2 = (400.0, 4000.0)  # below there is none, above there is some, as the truth has it
_AHEAD = 1.6  # times the infiltrate of any other region
_APART_UM = 16.0  # between figures, as in the first drawing

Image = NDArray[np.uint8]


@dataclass(frozen=True)
class Change:
    """Attributes:
    mitoses_in: ``solid`` or ``tubular``: the part of the tumour in which cells divide; empty: as drawn.
    densest: ``necrotic`` or ``clear``: which kind of region has most inflammatory cells; empty: as drawn.
    mirror: bits 1 left and right, 2 up and down.
    """

    mitoses_in: str = ""
    densest: str = ""
    mirror: int = 0

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)

    def before(self, drawing: Drawing, seed: int) -> Drawing:
        """The drawing that is painted."""
        if self.mitoses_in:
            drawing = move_mitoses(drawing, self.mitoses_in, seed)
        return thin_infiltrate(drawing, self.densest, seed) if self.densest else drawing

    def after(self, drawing: Drawing, image: Image) -> tuple[Drawing, Image]:
        """What is measured and written; ``image`` (h, w, 3)."""
        if not self.mirror:
            return drawing, image
        return mirror(drawing, self.mirror), np.ascontiguousarray(_flip(image, self.mirror))

    def measure(self, drawing: Drawing) -> dict[str, Any]:
        """What the second edition's questions need beside the first's truth.

        Keys: ``part_um2`` and ``part_mitoses``, part of the tumour -> number; ``inflammatory``, rows of the region
        grid, number of lymphocytes and plasma cells in the stroma of each.
        """
        maps = derive_maps(drawing)
        pattern = maps.pattern
        at = _pattern_at(drawing, pattern, *_first_rows(drawing))
        area = np.bincount(pattern.ravel(), minlength=len(PATTERNS)) * STEP_UM**2
        counts = np.bincount(at, minlength=len(PATTERNS))
        index = {part: [PATTERNS.index(p) for p in names] for part, names in PARTS.items()}
        return {
            "part_um2": {part: int(area[i].sum()) for part, i in index.items()},
            "part_mitoses": {part: int(counts[i].sum()) for part, i in index.items()},
            "inflammatory": _per_region(drawing, patch_sums(drawing, maps))[0].astype(int).tolist(),
        }


def _first_rows(drawing: Drawing) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Places (x, y) of the tumour's mitotic figures, one for each."""
    cells = drawing.cells
    figure, first = np.unique(cells["figure"], return_index=True)
    first = first[(figure > 0) & cells["neoplastic"][first] & (cells["kind"][first] == CellKind.MITOSIS)]
    return cells["x_um"][first].astype(np.float64), cells["y_um"][first].astype(np.float64)


def _pattern_at(
    drawing: Drawing, pattern: NDArray[np.uint8], x: NDArray[np.float64], y: NDArray[np.float64]
) -> NDArray[np.int64]:
    row = np.clip(y // STEP_UM, 0, pattern.shape[0] - 1).astype(np.int64)
    column = np.clip(x // STEP_UM, 0, pattern.shape[1] - 1).astype(np.int64)
    return pattern[row, column].astype(np.int64)


def move_mitoses(drawing: Drawing, part: str, seed: int) -> Drawing:
    """The drawing with the tumour's figures outside ``part`` in the places of resting tumour nuclei inside it.

    Each figure changes places with one nucleus, so every count stays. Where the part is too small for all of them the
    rest stays where it was.
    """
    rng = np.random.default_rng([seed, int(Stage.FIGURES), 2])
    cells = drawing.cells.copy()
    pattern = derive_maps(drawing).pattern
    wanted = [PATTERNS.index(p) for p in PARTS[part]]
    xy = np.stack([cells["x_um"], cells["y_um"]], 1).astype(np.float64)
    inside = np.isin(_pattern_at(drawing, pattern, xy[:, 0], xy[:, 1]), wanted)
    of_figure = (cells["figure"] > 0) & cells["neoplastic"] & (cells["kind"] == CellKind.MITOSIS)
    moving = [f for f in np.unique(cells["figure"][of_figure]) if not inside[np.flatnonzero(cells["figure"] == f)[0]]]
    resting = np.flatnonzero(inside & cells["neoplastic"] & (cells["kind"] == CellKind.TUMOUR) & ~cells["grazed"])
    taken = [tuple(p) for p in xy[of_figure & inside]]
    if len(resting):  # those with most room first: a dividing cell has its zone to itself
        room = np.asarray(cKDTree(xy).query(xy[resting], k=2)[0])[:, 1]
        resting = resting[np.argsort(-room + 0.3 * rng.random(len(resting)), kind="stable")]
    places = iter(resting)
    for figure in moving:
        rows = np.flatnonzero(cells["figure"] == figure)
        nucleus = next(
            (n for n in places if all(np.hypot(xy[n, 0] - x, xy[n, 1] - y) > _APART_UM for x, y in taken)), None
        )
        if nucleus is None:
            break
        shift = xy[nucleus] - xy[rows].mean(0)
        taken.append(tuple(xy[nucleus]))
        cells["x_um"][nucleus], cells["y_um"][nucleus] = xy[rows[0]]
        cells["x_um"][rows] += np.float32(shift[0])
        cells["y_um"][rows] += np.float32(shift[1])
    return replace(drawing, cells=cells)


def _per_region(drawing: Drawing, sums: Sums) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Inflammatory cells in the stroma and um2 of necrosis of each region, both (rows, columns)."""
    rows, cols = grid_shape(drawing.width_um, drawing.height_um, PATCH_UM)
    per = REGION_UM // PATCH_UM
    row, col = np.divmod(np.arange(rows * cols), cols)
    found = np.zeros((2, *grid_shape(drawing.width_um, drawing.height_um, REGION_UM)))
    necrosis = sums["compartments"][:, Compartment.NECROSIS]
    for k, value in enumerate((sums["stroma_lymphocytes"] + sums["stroma_plasma"], necrosis)):
        np.add.at(found[k], (row // per, col // per), value)
    return found[0], found[1]


def thin_infiltrate(drawing: Drawing, kind: str, seed: int) -> Drawing:
    """The drawing in which the fullest region with necrosis (``necrotic``) or without (``clear``) has most infiltrate.

    Other regions lose stromal lymphocytes and plasma cells at random until they have a good third less. A drawing
    without a region of this kind stays as it is.
    """
    number, necrosis = _per_region(drawing, patch_sums(drawing, derive_maps(drawing)))
    fit = (necrosis >= _NECROSIS_UM2[1] if kind == "necrotic" else necrosis <= _NECROSIS_UM2[0]) & (number > 0)
    if not fit.any():
        return drawing
    target = np.unravel_index(int(np.argmax(np.where(fit, number, -1))), number.shape)
    stays = np.minimum(number[target] / (_AHEAD * np.maximum(number, 1)), 1)
    stays[target] = 1
    cells = drawing.cells
    row = np.clip(cells["y_um"] // REGION_UM, 0, number.shape[0] - 1).astype(np.int64)
    column = np.clip(cells["x_um"] // REGION_UM, 0, number.shape[1] - 1).astype(np.int64)
    x = np.clip(cells["x_um"], 0, drawing.width_um - 1).astype(np.int64)
    y = np.clip(cells["y_um"], 0, drawing.height_um - 1).astype(np.int64)
    stromal = np.isin(drawing.compartments[y, x], _STROMA) & np.isin(cells["kind"], _INFLAMMATORY)
    rng = np.random.default_rng([seed, int(Stage.INFLAMMATION), 2])
    gone = stromal & (rng.random(len(cells)) >= stays[row, column])
    return replace(drawing, cells=cells[~gone])


def _flip(array: NDArray[Any], bits: int) -> NDArray[Any]:
    array = array[:, ::-1] if bits & 1 else array
    return array[::-1] if bits & 2 else array


def mirror(drawing: Drawing, bits: int) -> Drawing:
    """The drawing as its mirrored image shows it, for measuring; painting happens before.

    Args:
        bits: 1 left and right, 2 up and down.
    """
    cells = drawing.cells.copy()
    for bit, name, size, turn in ((1, "x_um", drawing.width_um, np.pi), (2, "y_um", drawing.height_um, 0.0)):
        if bits & bit:
            cells[name] = np.float32(size) - cells[name]
            # a mirrored border runs the other way round
            cells["theta"], cells["phase"] = np.float32(turn) - cells["theta"], -cells["phase"]
    structures = []
    for structure in drawing.structures:
        outline = structure.outline_um.copy()
        for bit, axis, size in ((1, 0, drawing.width_um), (2, 1, drawing.height_um)):
            if bits & bit:
                outline[:, axis] = size - outline[:, axis]
        structures.append(replace(structure, outline_um=outline))
    return replace(
        drawing,
        compartments=np.ascontiguousarray(_flip(drawing.compartments, bits)),
        lesion=np.ascontiguousarray(_flip(drawing.lesion, bits)),
        cells=cells,
        structures=structures,
        artefacts={k: np.ascontiguousarray(_flip(m, bits)) for k, m in drawing.artefacts.items()},
    )
