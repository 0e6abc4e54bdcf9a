"""What was really drawn: the table that pixels and truth are both made from.

- A drawing is laid out in microns on a 1-um grid: a map of compartments, a table of cells, a list of structures.
- Nothing reaches the pixels that is not in these tables, so truth can be re-measured from them exactly.
"""

from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray


class Compartment(IntEnum):
    """What a square micron of the drawing is."""

    GLASS = 0
    STROMA = 1
    EPITHELIUM = 2  # lining of a gland with a lumen
    LUMEN = 3
    NECROSIS = 4
    FAT = 5
    LYMPHOID = 6
    MUCIN = 7
    KERATIN = 8
    MUSCLE = 9
    BLOOD = 10
    SOLID = 11  # epithelium without a lumen: nests, sheets, single files
    GERMINAL = 12  # germinal centre
    SECRETION = 13  # inside a lumen
    DESMOPLASIA = 14  # stroma that a tumour made
    SINUS = 15  # of a lymph node


class CellKind(IntEnum):
    """Kinds of cells drawn."""

    TUMOUR = 1
    EPITHELIUM = 2
    LYMPHOCYTE = 3
    FIBROBLAST = 4
    MITOSIS = 5
    APOPTOTIC = 6
    PLASMA = 7
    ENDOTHELIUM = 8
    MYOEPITHELIUM = 9
    SMOOTH_MUSCLE = 10


CELL_DTYPE = np.dtype(
    [
        ("x_um", "f4"), ("y_um", "f4"),  # centre
        ("ra_um", "f4"), ("rb_um", "f4"), ("theta", "f4"),  # half axes, angle of the long one (rad)
        ("kind", "u1"),  # CellKind
        ("h", "f4"), ("e", "f4"),  # stain amount inside the nucleus
        ("texture", "f4"), ("rim", "f4"), ("nucleolus", "f4"), ("irregularity", "f4"),
        ("figure", "i4"),  # rows of one mitotic figure share a number > 0; else 0 (anaphase has two rows)
        ("structure", "i4"),  # index into structures, -1 for none
        ("neoplastic", "?"),  # belongs to a benign or malignant neoplasm
        ("grazed", "?"),  # cut near its pole: smaller and paler than the nucleus is
        ("phase", "f4", (3,)), ("wobble", "f4", (3,)),  # harmonics of the border
        ("chromatin", "i4"), ("nucleolus_at", "f4", (2,)),  # place in the texture bank; in half axes
    ]
)  # fmt: skip


@dataclass
class Structure:
    """A gland, nest, vessel, follicle...: something with an outline.

    Attributes:
        kind: such as ``benign_gland``, ``tumour_gland``, ``tumour_nest``, ``dcis_duct``, ``vessel``, ``follicle``.
        outline_um: (v, 2) float32.
        attrs: numbers and flags measured while drawing (``lumen``, ``myoepithelium``, ``pattern``...).
    """

    kind: str
    outline_um: NDArray[np.float32]
    attrs: dict[str, Any] = field(default_factory=dict)


@dataclass
class Drawing:
    """The layout of one phantom slide.

    Attributes:
        width_um, height_um: the slide; the map has one pixel a micron, shape (height_um, width_um).
        compartments: (h, w) uint8 of :class:`Compartment`.
        lesion: (h, w) bool, the field of the lesion (for benign slides: of its look-alike).
        cells: (n,) structured array of :data:`CELL_DTYPE`.
        structures: outlines with attributes.
        flow: (h//16, w//16) float32, direction of the fibres in radians.
        extra: what painting needs besides: ``seed``, ``owner`` (h, w) int32 index of the structure a micron belongs to
            (-1 none; the visible part of a structure), ``warp`` (2, h//16, w//16) float32 fibre coordinates,
            ``loose`` (h//8, w//8) float32 in [0, 1] loose stroma, ``fragments`` (h//8, w//8) int32 pieces, 0 outside.
        artefacts: filled by the developer: kind -> (h//8, w//8) bool mask of what it covers (pen, fold, blur, bubble).
    """

    width_um: int
    height_um: int
    compartments: NDArray[np.uint8]
    lesion: NDArray[np.bool_]
    cells: NDArray[np.void]
    structures: list[Structure]
    flow: NDArray[np.float32]
    extra: dict[str, Any] = field(default_factory=dict)
    artefacts: dict[str, NDArray[np.bool_]] = field(default_factory=dict)
