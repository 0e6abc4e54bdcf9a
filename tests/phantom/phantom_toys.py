"""Small hand-made drawings whose truth is known by construction."""

import cv2
import numpy as np

from hwsi.phantom.drawing import CELL_DTYPE, CellKind, Compartment, Drawing, Structure


class Toy:
    """A sheet of stroma on glass, to put glands, nests and cells on; microns throughout."""

    def __init__(self, width: int = 2048, height: int = 1024, pieces: list[tuple[int, int, int, int]] | None = None):
        self.comp = np.zeros((height, width), np.uint8)
        for x0, y0, x1, y1 in pieces or [(0, 0, width, height)]:
            self.comp[y0:y1, x0:x1] = Compartment.STROMA
        self.lesion = np.zeros((height, width), bool)
        self.cells: list[np.ndarray] = []
        self.structures: list[Structure] = []
        self.artefacts: dict[str, np.ndarray] = {}

    def cell(self, x, y, kind=CellKind.TUMOUR, size=4.0, *, neoplastic=True, figure=0, nucleolus=0.0, grazed=False):
        row = np.zeros(1, CELL_DTYPE)
        row["x_um"], row["y_um"], row["ra_um"], row["rb_um"] = x, y, size, size
        row["kind"], row["neoplastic"], row["figure"] = kind, neoplastic, figure
        row["nucleolus"], row["grazed"], row["structure"] = nucleolus, grazed, -1
        self.cells.append(row)

    def disc(self, x, y, radius, compartment):
        cv2.circle(self.comp, (int(x), int(y)), int(radius), int(compartment), -1)

    def box(self, x0, y0, x1, y1, compartment):
        self.comp[y0:y1, x0:x1] = compartment

    def gland(self, x, y, radius=40, lumen=22, *, neoplastic=True, **cell):
        self.disc(x, y, radius, Compartment.EPITHELIUM)
        self.disc(x, y, lumen, Compartment.LUMEN)
        kind = CellKind.TUMOUR if neoplastic else CellKind.EPITHELIUM
        for turn in np.linspace(0, 2 * np.pi, 16, endpoint=False):
            r = (radius + lumen) / 2
            self.cell(x + r * np.cos(turn), y + r * np.sin(turn), kind, neoplastic=neoplastic, **cell)

    def nest(self, x, y, radius=36, *, holes=0, neoplastic=True, **cell):
        self.disc(x, y, radius, Compartment.SOLID)
        kind = CellKind.TUMOUR if neoplastic else CellKind.EPITHELIUM
        for dy in range(-radius, radius + 1, 12):
            for dx in range(-radius, radius + 1, 12):
                if dx * dx + dy * dy < (radius - 4) ** 2:
                    self.cell(x + dx, y + dy, kind, neoplastic=neoplastic, **cell)
        for k in range(holes):
            turn = 2 * np.pi * k / holes
            self.disc(x + radius * 0.5 * np.cos(turn), y + radius * 0.5 * np.sin(turn), 8, Compartment.LUMEN)

    def field(self, x0, y0, x1, y1):
        self.lesion[y0:y1, x0:x1] = True

    def drawing(self) -> Drawing:
        height, width = self.comp.shape
        cells = np.concatenate(self.cells) if self.cells else np.zeros(0, CELL_DTYPE)
        return Drawing(
            width_um=width,
            height_um=height,
            compartments=self.comp,
            lesion=self.lesion,
            cells=cells,
            structures=self.structures,
            flow=np.zeros((height // 16, width // 16), np.float32),
            artefacts=self.artefacts,
        )


def tumour(tubular: int = 5, solid: int = 5, **cell) -> Toy:
    """Glands and nests of nearly equal epithelial area in a lesion at the left, glass around nothing."""
    toy = Toy()
    toy.field(0, 0, 1024, 1024)
    places = [(120 + 140 * (k % 6), 120 + 140 * (k // 6)) for k in range(tubular + solid)]
    for k, (x, y) in enumerate(places):
        if k < tubular:
            toy.gland(x, y, **cell)
        else:
            toy.nest(x, y, **cell)
    return toy
