"""Nuclei as rows of a table: their morphology by kind, mitotic figures, and their contours.

- A kind is a row of numbers: half axes, spread, stain, chromatin, nucleolus. Pleomorphism changes these, not code.
- Half axes are microns; stain amounts are log10 optical densities along the stain's unit vector.
- The border of a nucleus is an ellipse whose radius carries harmonics 1 to 3; the contour in the truth and the
  painted border are the same formula.
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hwsi.phantom.drawing import CELL_DTYPE, CellKind
from hwsi.phantom.geometry import Points

Cells = NDArray[np.void]
CONTOUR_POINTS = 20


@dataclass(frozen=True)
class Morphology:
    """How nuclei of one kind look.

    Attributes:
        radius_um: geometric mean of the half axes; ``radius_cv`` its spread between cells (log-normal).
        elongation: long over short axis; ``elongation_cv`` its spread.
        h, h_cv: haematoxylin; e: eosin over the nucleus.
        texture, rim, nucleolus, irregularity: chromatin contrast, membrane, nucleolar prominence, border.
        turn_sd: deviation from the asked direction (rad); 9 is any direction.
    """

    kind: CellKind
    radius_um: float
    radius_cv: float
    elongation: float
    elongation_cv: float
    h: float
    h_cv: float
    texture: float
    rim: float
    nucleolus: float
    irregularity: float
    turn_sd: float = 0.12
    e: float = 0.27


K = CellKind
MORPHOLOGY: dict[str, Morphology] = {
    "lymphocyte": Morphology(K.LYMPHOCYTE, 2.75, 0.09, 1.10, 0.06, 0.62, 0.14, 0.28, 0.05, 0.0, 0.05, 9),
    "plasma": Morphology(K.PLASMA, 2.85, 0.08, 1.12, 0.05, 0.55, 0.12, 0.32, 0.08, 0.0, 0.04, 9),
    "centrocyte": Morphology(K.LYMPHOCYTE, 3.6, 0.16, 1.12, 0.08, 0.40, 0.16, 0.40, 0.12, 0.12, 0.07, 9),
    "macrophage": Morphology(K.LYMPHOCYTE, 3.3, 0.12, 1.35, 0.12, 0.33, 0.15, 0.30, 0.10, 0.1, 0.08, 9),
    "fibroblast": Morphology(K.FIBROBLAST, 2.5, 0.16, 3.9, 0.32, 0.42, 0.22, 0.20, 0.05, 0.0, 0.10, 0.3),
    "myofibroblast": Morphology(K.FIBROBLAST, 2.85, 0.16, 2.9, 0.22, 0.36, 0.20, 0.28, 0.10, 0.12, 0.08, 0.35),
    "endothelium": Morphology(K.ENDOTHELIUM, 2.45, 0.14, 3.4, 0.2, 0.47, 0.15, 0.20, 0.05, 0.0, 0.08, 0.1),
    "smooth_muscle": Morphology(K.SMOOTH_MUSCLE, 2.75, 0.12, 4.8, 0.2, 0.37, 0.15, 0.20, 0.05, 0.0, 0.05, 0.12),
    "myoepithelium": Morphology(K.MYOEPITHELIUM, 2.3, 0.12, 2.3, 0.15, 0.50, 0.15, 0.20, 0.05, 0.0, 0.06, 0.1),
    "pneumocyte": Morphology(K.EPITHELIUM, 2.7, 0.15, 1.6, 0.2, 0.47, 0.16, 0.26, 0.08, 0.05, 0.06, 0.3),
    "benign": Morphology(K.EPITHELIUM, 3.15, 0.10, 1.2, 0.08, 0.46, 0.13, 0.26, 0.10, 0.05, 0.04, 0.15),
    "adenoma": Morphology(K.EPITHELIUM, 3.5, 0.13, 2.2, 0.14, 0.56, 0.12, 0.25, 0.06, 0.05, 0.05, 0.12),
    "tumour1": Morphology(K.TUMOUR, 3.55, 0.10, 1.16, 0.08, 0.47, 0.12, 0.27, 0.09, 0.05, 0.04, 0.4),
    "tumour2": Morphology(K.TUMOUR, 4.15, 0.18, 1.24, 0.13, 0.42, 0.18, 0.34, 0.14, 0.22, 0.07, 0.4),
    "tumour3": Morphology(K.TUMOUR, 5.1, 0.30, 1.35, 0.20, 0.37, 0.28, 0.42, 0.20, 0.55, 0.11, 0.6),
    "debris": Morphology(K.APOPTOTIC, 1.15, 0.40, 1.1, 0.25, 0.42, 0.40, 0.30, 0.0, 0.0, 0.18, 9),
}


def tumour(pleomorphism: int) -> str:
    """Name of the morphology of tumour nuclei with a pleomorphism score of 1 to 3."""
    return f"tumour{pleomorphism}"


def adenoma_of(pleomorphism: int) -> Morphology:
    """Pencil-shaped dysplastic nuclei; higher scores are plumper, more varied and less elongated."""
    grown = (0.94, 1.06, 1.24)[pleomorphism - 1]
    base = MORPHOLOGY["adenoma"]
    return replace(
        base,
        radius_um=base.radius_um * grown,
        radius_cv=(0.10, 0.15, 0.24)[pleomorphism - 1],
        elongation=(2.4, 2.0, 1.6)[pleomorphism - 1],
        nucleolus=(0.03, 0.12, 0.4)[pleomorphism - 1],
        irregularity=(0.04, 0.06, 0.1)[pleomorphism - 1],
    )


def nuclei(
    rng: np.random.Generator,
    look: str | Morphology,
    xy_um: Points,
    theta: Any = 0.0,
    *,
    elongation: float | None = None,
    neoplastic: bool = False,
    structure: int = -1,
) -> Cells:
    """Nuclei at points (n, 2), long axis near ``theta``: (n,) rows of the cell table."""
    form = MORPHOLOGY[look] if isinstance(look, str) else look
    n = len(xy_um)
    cells = np.zeros(n, CELL_DTYPE)
    radius = form.radius_um * np.exp(rng.normal(0, form.radius_cv, n))
    ratio = (elongation or form.elongation) * np.exp(rng.normal(0, form.elongation_cv, n))
    ratio = np.maximum(ratio, 1.0)
    # a nucleus of the same DNA spread over more area is paler
    pale = np.clip(radius / max(form.radius_um, 1e-3), 0.6, 2.0) ** 0.35
    cells["x_um"], cells["y_um"] = xy_um[:, 0], xy_um[:, 1]
    cells["ra_um"], cells["rb_um"] = radius * ratio**0.5, radius / ratio**0.5
    cells["theta"] = (np.asarray(theta) + rng.normal(0, form.turn_sd, n)) % np.pi
    cells["kind"] = form.kind
    cells["h"] = form.h * np.exp(rng.normal(0, form.h_cv, n)) / pale
    cells["e"] = form.e
    cells["texture"], cells["rim"], cells["irregularity"] = form.texture, form.rim, form.irregularity
    cells["nucleolus"] = form.nucleolus * np.exp(rng.normal(0, 0.35, n))
    cells["structure"], cells["neoplastic"] = structure, neoplastic
    cells["phase"] = rng.uniform(0, 2 * np.pi, (n, 3))
    cells["wobble"] = rng.normal(0, 1, (n, 3))
    cells["chromatin"] = rng.integers(0, 1 << 20, n)
    cells["nucleolus_at"] = rng.uniform(-0.4, 0.4, (n, 2))
    return cells


def graze(rng: np.random.Generator, cells: Cells, share: float) -> None:
    """Cut a share of the nuclei near their pole, in place: 8 to 16 um2 and pale, as in a real section."""
    solid = np.isin(cells["kind"], (K.TUMOUR, K.EPITHELIUM, K.LYMPHOCYTE, K.FIBROBLAST, K.PLASMA))
    chosen = np.flatnonzero(solid & (rng.random(len(cells)) < share))
    area = rng.uniform(8, 16, len(chosen))
    scale = np.minimum(np.sqrt(area / (np.pi * cells["ra_um"][chosen] * cells["rb_um"][chosen])), 1.0)
    for name in ("ra_um", "rb_um"):
        cells[name][chosen] *= scale
    cells["h"][chosen] *= (0.55 + 0.45 * scale) * rng.uniform(0.75, 1, len(chosen))
    cells["nucleolus"][chosen] *= 0.3
    cells["grazed"][chosen] = scale < 0.9


def mitotic_figure(rng: np.random.Generator, cell: Cells, figure: int) -> Cells:
    """One dividing cell in place of ``cell`` (shape (1,)): one row, or two rows for an anaphase."""
    row = cell.copy()
    row["kind"], row["figure"], row["grazed"] = K.MITOSIS, figure, False
    row["h"], row["e"] = rng.uniform(0.85, 1.05), 0.14
    row["texture"], row["rim"], row["nucleolus"], row["irregularity"] = 0.15, 0, 0, 0.14
    draw = rng.random()
    if draw < 0.5:  # metaphase plate, seen from the side
        row["ra_um"], row["rb_um"] = rng.uniform(4.0, 5.6), rng.uniform(1.6, 2.4)
        return row
    if draw < 0.75:  # anaphase: two plates that draw apart
        row["ra_um"], row["rb_um"] = rng.uniform(3.2, 4.3), rng.uniform(1.3, 1.8)
        apart = rng.uniform(2.7, 4.0)
        both = np.concatenate([row, row])
        theta = float(row["theta"][0])
        both["x_um"] += np.array([-1, 1], np.float32) * apart * -np.sin(theta)
        both["y_um"] += np.array([-1, 1], np.float32) * apart * np.cos(theta)
        both["phase"] = rng.uniform(0, 2 * np.pi, (2, 3))
        return both
    row["ra_um"], row["rb_um"] = rng.uniform(3.4, 4.8), rng.uniform(2.8, 3.8)  # prometaphase: a ragged clump
    row["irregularity"], row["texture"] = 0.28, 0.5
    return row


def apoptotic_body(rng: np.random.Generator, cells: Cells, rows: NDArray[np.intp]) -> None:
    """Turn cells into shrunken, smooth, dark bodies in pink cytoplasm, in place."""
    cells["kind"][rows] = K.APOPTOTIC
    cells["ra_um"][rows] = cells["rb_um"][rows] = rng.uniform(1.5, 2.4, len(rows))
    cells["h"][rows], cells["e"][rows], cells["texture"][rows] = 1.0, 0.5, 0.05
    cells["rim"][rows] = cells["nucleolus"][rows] = 0
    cells["irregularity"][rows] = 0.05


def border_radius(cells: Cells, cos: Any, sin: Any) -> Any:
    """Radius of the border over that of the ellipse, in the direction (cos, sin) of the cell's own axes.

    ``cells`` is (n,) and ``cos`` and ``sin`` are (n,) or (n, k); double and triple angles by their identities.
    """
    extra = (slice(None),) + (None,) * (np.ndim(cos) - 1)
    phase, wobble = cells["phase"], cells["wobble"]
    cos2, sin2 = 2 * cos * cos - 1, 2 * sin * cos
    cos3, sin3 = cos * cos2 - sin * sin2, sin * cos2 + cos * sin2
    wave = wobble[:, 0][extra] * (cos2 * np.cos(phase[:, 0])[extra] + sin2 * np.sin(phase[:, 0])[extra])
    wave = wave + wobble[:, 1][extra] * (cos3 * np.cos(phase[:, 1])[extra] + sin3 * np.sin(phase[:, 1])[extra])
    wave = wave + 0.6 * wobble[:, 2][extra] * cos
    return np.clip(1 + cells["irregularity"][extra] * wave, 0.6, 1.5)


def contours_of(cells: Cells) -> NDArray[np.float32]:
    """Borders of nuclei: (n, 20, 2) float32 in microns."""
    turn = np.linspace(0, 2 * np.pi, CONTOUR_POINTS, endpoint=False)[None]
    cos, sin = np.broadcast_to(np.cos(turn), (len(cells), CONTOUR_POINTS)), np.sin(turn)
    radius = border_radius(cells, cos, sin)
    # a point of the unit circle in the direction of the ellipse's own coordinates
    x, y = radius * cos * cells["ra_um"][:, None], radius * sin * cells["rb_um"][:, None]
    c, s = np.cos(cells["theta"])[:, None], np.sin(cells["theta"])[:, None]
    xy = np.stack([cells["x_um"][:, None] + x * c - y * s, cells["y_um"][:, None] + x * s + y * c], -1)
    return xy.astype(np.float32)
