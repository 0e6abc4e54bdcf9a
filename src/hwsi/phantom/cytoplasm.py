"""What lies behind the nuclei at one micron: compartments as stain amounts, cytoplasm, membranes, ghosts.

- A table gives each compartment its stain and its textures; borders are softened, not drawn.
- Cytoplasm varies from cell to cell by the cells' own numbers, so that neighbouring tiles agree.
- Cells that are told by their cytoplasm get it here: plasma cells, dividing and dying cells.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from hwsi.phantom.cells import Cells
from hwsi.phantom.drawing import CellKind, Compartment
from hwsi.phantom.noise import Field

C = Compartment
# haematoxylin, eosin, grain, fibre, cleft
_STAIN: dict[Compartment, tuple[float, float, float, float, float]] = {
    C.GLASS: (0, 0, 0, 0, 0),
    C.STROMA: (0.06, 0.26, 0.06, 0.12, 1.0),
    C.EPITHELIUM: (0.10, 0.27, 0.06, 0, 0),
    C.LUMEN: (0, 0.012, 0.012, 0, 0),
    C.NECROSIS: (0.10, 0.33, 0.12, 0, 0),
    C.FAT: (0, 0, 0, 0, 0),
    C.LYMPHOID: (0.13, 0.15, 0.07, 0, 0),
    C.MUCIN: (0.10, 0.07, 0.03, 0.03, 0),
    C.KERATIN: (0.05, 0.50, 0.04, 0.02, 0),
    C.MUSCLE: (0.07, 0.38, 0.055, 0.06, 0.35),
    C.BLOOD: (0, 0.58, 0.05, 0, 0),
    C.SOLID: (0.11, 0.27, 0.065, 0, 0),
    C.GERMINAL: (0.14, 0.17, 0.08, 0, 0),
    C.SECRETION: (0.03, 0.17, 0.05, 0, 0),
    C.DESMOPLASIA: (0.09, 0.18, 0.055, 0.065, 0.45),
    C.SINUS: (0.08, 0.28, 0.06, 0.015, 0),
}
_TABLE = np.zeros((256, 5), np.float32)
for _compartment, _row in _STAIN.items():
    _TABLE[_compartment] = _row


@dataclass
class Base:
    """Layers at one micron, all (h, w) float32: stain, texture strengths, depth in keratin, secretion; blood bool."""

    h: Field
    e: Field
    grain: Field
    fibre: Field
    cleft: Field
    keratin: Field
    secretion: Field
    blood: NDArray[np.bool_]


def base_layer(
    compartments: NDArray[np.uint8],
    cells: Cells,
    ghosts: Cells,
    loose: Field,
    origin_um: tuple[int, int],
    cytoplasm_h: float,
    membrane: float,
) -> Base:
    """Stain behind the nuclei of a window of the map whose corner is ``origin_um``; ``loose`` has its shape."""
    table = _TABLE.copy()
    table[[C.EPITHELIUM, C.SOLID], 0] = cytoplasm_h

    def layer(column: int) -> Field:
        return np.asarray(cv2.GaussianBlur(cv2.LUT(compartments, table[:, column]), (0, 0), 0.6))

    def where(*kinds: Compartment) -> NDArray[np.uint8]:
        return np.asarray(cv2.LUT(compartments, np.isin(np.arange(256), kinds).astype(np.uint8)))

    h, e, grain, fibre, cleft = (layer(column) for column in range(5))
    if loose.any():
        soft = where(C.STROMA) * loose
        h += 0.025 * soft
        e -= 0.11 * soft
        fibre -= 0.05 * soft
        cleft *= 1 - 0.6 * soft
    square = np.ones((3, 3), np.uint8)
    # a thin pink line where epithelium meets stroma, and along the lumen
    inside = where(C.EPITHELIUM, C.SOLID, C.NECROSIS, C.LUMEN, C.MUCIN, C.KERATIN, C.SECRETION)
    basement = cv2.morphologyEx(inside, cv2.MORPH_GRADIENT, square).astype(np.float32)
    e += 0.14 * cv2.GaussianBlur(basement, (0, 0), 0.7) * (cleft > 0.3)
    epithelium = where(C.EPITHELIUM, C.SOLID)
    apical = (np.asarray(cv2.dilate(where(C.LUMEN, C.SECRETION), square), np.uint8) & epithelium).astype(np.float32)
    e += 0.12 * cv2.GaussianBlur(apical, (0, 0), 0.6)
    _cytoplasm(h, e, cells, where(C.EPITHELIUM, C.SOLID, C.GERMINAL), origin_um, membrane)
    _told_by_cytoplasm(h, e, grain, cells, origin_um)
    _ghosts(h, e, ghosts, origin_um)
    keratin = where(C.KERATIN)
    depth = np.asarray(cv2.distanceTransform(keratin, cv2.DIST_L2, 3), np.float32)
    secretion = where(C.SECRETION).astype(np.float32)
    return Base(h, e, grain, fibre, cleft, depth, secretion, compartments == C.BLOOD)


def _cytoplasm(
    h: Field, e: Field, cells: Cells, where: NDArray[np.uint8], origin_um: tuple[int, int], membrane: float
) -> None:
    """A tone of its own for each epithelial cell (nearest nucleus) and a line between neighbours."""
    own = cells[np.isin(cells["kind"], (CellKind.TUMOUR, CellKind.EPITHELIUM, CellKind.MITOSIS))]
    column = (own["x_um"] - origin_um[0]).astype(np.intp)
    row = (own["y_um"] - origin_um[1]).astype(np.intp)
    inside = (column >= 0) & (row >= 0) & (column < h.shape[1]) & (row < h.shape[0])
    own, column, row = own[inside], column[inside], row[inside]
    if not len(own) or not where.any():
        return
    seeds = np.ones(h.shape, np.uint8)
    seeds[row, column] = 0
    label = cv2.distanceTransformWithLabels(seeds, cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL)[1]
    tone = np.zeros(int(label.max()) + 1, np.float32)
    tone[label[row, column]] = np.clip(own["wobble"][:, 1], -2, 2)
    border = cv2.morphologyEx(label.astype(np.float32), cv2.MORPH_GRADIENT, np.ones((2, 2), np.uint8)) > 0
    shade = cv2.GaussianBlur((0.045 * tone[label] + membrane * border) * where, (0, 0), 0.65)
    e += shade
    h += 0.35 * shade


def _told_by_cytoplasm(h: Field, e: Field, grain: Field, cells: Cells, origin_um: tuple[int, int]) -> None:
    """Plasma cells (eccentric, purple, a pale hof), mitoses (a clear zone), apoptosis (pink, shrunken)."""
    special = cells[np.isin(cells["kind"], (CellKind.PLASMA, CellKind.MITOSIS, CellKind.APOPTOTIC))]
    if not len(special):
        return
    clear = np.zeros(h.shape, np.float32)
    purple = np.zeros(h.shape, np.float32)
    pink = np.zeros(h.shape, np.float32)

    def disc(target: Field, x: float, y: float, radius: float) -> None:
        cv2.circle(target, (int(x * 16), int(y * 16)), int(radius * 16), 1.0, -1, cv2.LINE_8, 4)

    for cell in special:
        x, y = float(cell["x_um"]) - origin_um[0] - 0.5, float(cell["y_um"]) - origin_um[1] - 0.5
        if cell["kind"] == CellKind.PLASMA:
            side = float(cell["phase"][0])
            cos, sin = np.cos(side), np.sin(side)
            disc(purple, x + 2.3 * cos, y + 2.3 * sin, 4.8)
        elif cell["kind"] == CellKind.MITOSIS:
            disc(clear, x, y, 6.6)
        elif float(cell["ra_um"]) > 1.4:
            disc(clear, x, y, 5.6)
            disc(pink, x, y, 3.8)
    for cell in special[special["kind"] == CellKind.PLASMA]:
        side = float(cell["phase"][0])
        x, y = float(cell["x_um"]) - origin_um[0] - 0.5, float(cell["y_um"]) - origin_um[1] - 0.5
        cv2.circle(purple, (int((x + 3.4 * np.cos(side)) * 16), int((y + 3.4 * np.sin(side)) * 16)),
                   int(1.5 * 16), 0.35, -1, cv2.LINE_8, 4)  # fmt: skip
    for mask in (clear, purple, pink):
        cv2.GaussianBlur(mask, (0, 0), 0.8, dst=mask)
    h *= 1 - 0.55 * clear
    e *= 1 - 0.22 * clear
    grain *= 1 - 0.5 * clear
    h += purple * (0.17 - 0.5 * h)
    e += purple * (0.27 - 0.6 * e)
    e += 0.35 * pink


def _ghosts(h: Field, e: Field, ghosts: Cells, origin_um: tuple[int, int]) -> None:
    """Nuclei out of focus: faint and soft."""
    mask = np.zeros(h.shape, np.float32)
    for ghost in ghosts:
        centre = (int((ghost["x_um"] - origin_um[0]) * 16), int((ghost["y_um"] - origin_um[1]) * 16))
        axes = (int(ghost["ra_um"] * 16), int(ghost["rb_um"] * 16))
        degrees = float(np.degrees(ghost["theta"]))
        cv2.ellipse(mask, centre, axes, degrees, 0, 360, float(ghost["h"]), -1, cv2.LINE_8, 4)
    h += cv2.GaussianBlur(mask, (0, 0), 1.0) * (e > 0.06)
