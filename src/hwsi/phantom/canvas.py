"""The sheet that a drawing grows on: a map of compartments, who owns each micron, cells and structures.

- Every stage draws from its own random stream (``[seed, stage]``): one more draw in a stage changes that stage only.
- Coarse fields (tissue, lesion) have one pixel per 8 um, the fibre field one per 16 um.
"""

from enum import IntEnum
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from hwsi.phantom.cells import Cells
from hwsi.phantom.drawing import CELL_DTYPE, Compartment, Structure
from hwsi.phantom.geometry import Points, sample
from hwsi.phantom.noise import hex_grid
from hwsi.phantom.spec import Spec

FIELD_UM = 8
FLOW_UM = 16
_SHIFT = 4  # sub-pixel bits of polygon corners
Mask = NDArray[np.bool_]


class Stage(IntEnum):
    """Random streams."""

    OUTLINE = 1
    LESION = 2
    FLOW = 3
    ORGAN = 4
    GROWTH = 5
    VESSELS = 6
    NECROSIS = 7
    EPITHELIUM = 8
    STROMA = 9
    INFLAMMATION = 10
    OVERLAP = 11
    FIGURES = 12
    PAINT = 20
    DEVELOP = 21
    ARTEFACTS = 22


class Canvas:
    """What has been drawn so far.

    Attributes:
        compartments: (h, w) uint8; owner: (h, w) int32, index of the structure, -1 for none.
        tissue, lesion: (h//8, w//8) bool; fragment: (h//8, w//8) int32, 0 outside.
        outline, lesion_um: (h, w) bool, the same two at one micron.
        loose: (h//8, w//8) float32 in [0, 1], how loose the stroma is (lobules, lamina propria, submucosa).
        warp: (2, h//16, w//16) float32, coordinates along and across the fibres; flow: their direction.
    """

    tissue: Mask
    lesion: Mask
    outline: Mask
    lesion_um: Mask
    fragment: NDArray[np.int32]
    warp: NDArray[np.float32]
    flow: NDArray[np.float32]

    def __init__(self, spec: Spec) -> None:
        self.spec = spec
        self.width, self.height = spec.width_um, spec.height_um
        self.compartments = np.zeros((self.height, self.width), np.uint8)
        self.owner = np.full((self.height, self.width), -1, np.int32)
        self.loose = np.zeros(self.coarse_shape, np.float32)
        self.structures: list[Structure] = []
        self._cells: list[Cells] = []

    @property
    def box(self) -> tuple[float, float, float, float]:
        """(x0, y0, x1, y1) of the slide in microns."""
        return (0, 0, self.width, self.height)

    @property
    def coarse_shape(self) -> tuple[int, int]:
        """Shape of the 8-um fields."""
        return self.height // FIELD_UM, self.width // FIELD_UM

    def rng(self, stage: Stage) -> np.random.Generator:
        """The stage's own random stream."""
        return np.random.default_rng([self.spec.seed, int(stage)])

    def begin(self, kind: str, outline: Points, **attrs: Any) -> int:
        """Register a structure; returns its index, to be handed to :meth:`fill`."""
        self.structures.append(Structure(kind, outline.astype(np.float32), attrs))
        return len(self.structures) - 1

    def fill(self, polygon: Points, compartment: Compartment, owner: int | None = None) -> None:
        """Fill a polygon (v, 2); ``owner`` None leaves the owners as they are."""
        corners = [np.round((polygon - 0.5) * (1 << _SHIFT)).astype(np.int32)]
        cv2.fillPoly(self.compartments, corners, int(compartment), shift=_SHIFT)
        if owner is not None:
            cv2.fillPoly(self.owner, corners, owner, shift=_SHIFT)

    def loosen(self, polygon: Points, amount: float) -> None:
        """Make the stroma inside a polygon loose."""
        cv2.fillPoly(self.loose, [np.round(polygon / FIELD_UM - 0.5).astype(np.int32)], amount)

    def ellipse(self, xy: Points, long_um: float, short_um: float, theta: float, compartment: Compartment) -> None:
        """Fill an ellipse."""
        centre = tuple(int((v - 0.5) * (1 << _SHIFT)) for v in xy)
        axes = (int(long_um * (1 << _SHIFT)), int(short_um * (1 << _SHIFT)))
        degrees = float(np.degrees(theta))
        cv2.ellipse(self.compartments, centre, axes, degrees, 0, 360, int(compartment), -1, shift=_SHIFT)

    def add(self, cells: Cells) -> None:
        """Lay down nuclei; later ones yield to earlier ones where they clash."""
        if len(cells):
            self._cells.append(cells)

    def all_cells(self) -> Cells:
        """Every nucleus so far, in order."""
        return np.concatenate(self._cells) if self._cells else np.zeros(0, CELL_DTYPE)

    def here(self, xy_um: Points) -> NDArray[np.uint8]:
        """Compartments at points (n, 2)."""
        return sample(self.compartments, xy_um)

    def direction(self, xy_um: Points) -> NDArray[np.float32]:
        """Direction of the fibres at points (n, 2)."""
        return sample(self.flow, xy_um, FLOW_UM)

    def sites(
        self, rng: np.random.Generator, field: Mask, spacing_um: float, jitter: float = 0.2, inset_um: float = 0
    ) -> Points:
        """Points of a jittered grid inside a coarse field, at least ``inset_um`` from its border."""
        if inset_um:
            steps = max(1, round(inset_um / FIELD_UM))
            field = cv2.erode(field.astype(np.uint8), np.ones((3, 3), np.uint8), iterations=steps) > 0
        points = hex_grid(rng, self.box, spacing_um, jitter)
        return np.asarray(points[sample(field, points, FIELD_UM)])

    def fine(self, field: Mask, blur_um: float = 6) -> Mask:
        """A coarse field at one micron, with a smooth border."""
        large = cv2.resize(field.astype(np.float32), (self.width, self.height), interpolation=cv2.INTER_LINEAR)
        return np.asarray(cv2.GaussianBlur(large, (0, 0), blur_um) > 0.5)
