"""Glands, nests and vessels: one outline, its compartments, and the cells that line it.

- A gland is an epithelium of a given height around a lumen; a nest is solid and is filled with cells later, when
  everything that may cover it has been drawn.
- What truth needs to know of a structure (lumen, myoepithelium, pattern) stands in its attributes.
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from hwsi.phantom.canvas import Canvas
from hwsi.phantom.cells import Morphology, nuclei
from hwsi.phantom.drawing import Compartment
from hwsi.phantom.geometry import Blob, Outline, Points, along


@dataclass(frozen=True)
class Lining:
    """How the epithelium of a gland is built.

    Attributes:
        nuclei: name of a morphology, or one; elongation overrides its own.
        height_um: of the epithelium; spacing_um: between nuclei along the contour.
        layers: rows of nuclei; depth: of a single row, from the base, as part of the height.
        goblets: share of cells with a mucin vacuole; myoepithelium: an outer ring of flat nuclei.
        neoplastic: whether its cells are.
    """

    nuclei: str | Morphology
    height_um: float
    spacing_um: float
    layers: int = 1
    depth: float = 0.35
    elongation: float | None = None
    goblets: float = 0.0
    myoepithelium: bool = False
    neoplastic: bool = False


def gland(
    canvas: Canvas,
    rng: np.random.Generator,
    outline: Outline,
    lining: Lining,
    kind: str,
    *,
    clear_um: float = 2.0,
    secretion: float = 0.3,
    debris: bool = False,
    **attrs: Any,
) -> int:
    """Draw a gland with a lumen; returns its index. ``debris`` fills the lumen with necrosis ("dirty necrosis")."""
    border = outline.at(0)
    if clear_um:
        canvas.fill(outline.at(-clear_um), Compartment.STROMA, -1)
    base = 2.4 if lining.myoepithelium else 0.0
    open_lumen = outline.room_um > lining.height_um + base + 1.5
    attrs = {"lumen": open_lumen, "myoepithelium": lining.myoepithelium, **attrs}
    index = canvas.begin(kind, border, **attrs)
    canvas.fill(border, Compartment.EPITHELIUM, index)
    _line(canvas, rng, outline, lining, base, index)
    if open_lumen:
        inner = outline.at(lining.height_um + base)
        canvas.fill(inner, Compartment.LUMEN)
        left = outline.room_um - lining.height_um - base
        if debris:
            canvas.fill(outline.at(lining.height_um + base + 2 + 0.12 * left), Compartment.NECROSIS)
        elif left > 5 and rng.random() < secretion:
            _secrete(canvas, rng, inner, left)
    if lining.goblets:
        _goblets(canvas, rng, outline, lining, base)
    return index


def _line(canvas: Canvas, rng: np.random.Generator, outline: Outline, lining: Lining, base: float, index: int) -> None:
    form: dict[str, Any] = {"structure": index, "neoplastic": lining.neoplastic}
    if lining.myoepithelium:
        xy, normal = along(rng, outline.at(1.2), 9.5)
        canvas.add(nuclei(rng, "myoepithelium", xy, normal + np.pi / 2, structure=index))
    for layer in range(lining.layers):
        part = lining.depth if lining.layers == 1 else 0.1 + 0.72 * (layer + 0.5) / lining.layers
        spacing = lining.spacing_um * (1 if lining.layers == 1 else 1.18)
        xy, normal = along(rng, outline.at(base + lining.height_um * part), spacing)
        xy = xy + rng.normal(0, 0.6 if lining.layers == 1 else 1.3, xy.shape)
        canvas.add(nuclei(rng, lining.nuclei, xy, normal, elongation=lining.elongation, **form))


def _goblets(canvas: Canvas, rng: np.random.Generator, outline: Outline, lining: Lining, base: float) -> None:
    xy, normal = along(rng, outline.at(base + lining.height_um * 0.64), 8.2)
    chosen = rng.random(len(xy)) < lining.goblets
    for point, angle in zip(xy[chosen], normal[chosen], strict=True):
        canvas.ellipse(point, rng.uniform(4.4, 6.2), rng.uniform(2.6, 3.7), float(angle), Compartment.MUCIN)


def _secrete(canvas: Canvas, rng: np.random.Generator, inner: Points, room_um: float) -> None:
    """A retracted clump of secretion with a few sloughed cells."""
    centre = inner.mean(0)
    pull = rng.uniform(0.25, 0.95) * (1 + 0.3 * np.cos(rng.integers(1, 4) * np.linspace(0, 2 * np.pi, len(inner))))
    away = rng.normal(0, 0.22, 2) * room_um
    clump = centre + away * (1 - pull.mean()) + (inner - centre) * np.clip(pull, 0.15, 1)[:, None]
    canvas.fill(clump, Compartment.SECRETION)
    if rng.random() < 0.35:
        n = int(rng.integers(1, 4))
        xy = centre + rng.normal(0, 0.25 * room_um, (n, 2))
        canvas.add(nuclei(rng, "macrophage", xy, elongation=1.1))


def nest(
    canvas: Canvas,
    outline: Blob,
    kind: str,
    filling: str,
    *,
    clear_um: float = 0.0,
    neoplastic: bool = True,
    **attrs: Any,
) -> int:
    """Draw a solid nest; its cells of morphology ``filling`` come later. Returns its index."""
    if clear_um:
        canvas.fill(outline.at(-clear_um), Compartment.STROMA, -1)
    given = {"lumen": False, "myoepithelium": False, "pattern": "solid", **attrs}
    index = canvas.begin(kind, outline.at(0), nuclei=filling, neoplastic=neoplastic, **given)
    canvas.fill(outline.at(0), Compartment.SOLID, index)
    return index


def ring_of_myoepithelium(canvas: Canvas, rng: np.random.Generator, outline: Outline, index: int) -> None:
    """Flat nuclei just inside the border: what an invasive gland has lost."""
    xy, normal = along(rng, outline.at(1.4), 10.5)
    canvas.add(nuclei(rng, "myoepithelium", xy, normal + np.pi / 2, structure=index))


def punch(canvas: Canvas, rng: np.random.Generator, outline: Blob, holes: int) -> int:
    """Cribriform holes (6 to 14 um) with spaces between them; returns how many found room."""
    placed: list[tuple[Points, float]] = []
    cos, sin = np.cos(outline.angle), np.sin(outline.angle)
    for _ in range(holes * 4):
        if len(placed) == holes:
            break
        radius = rng.uniform(6, 14)
        turn, far = rng.uniform(0, 2 * np.pi), rng.uniform(0, 0.7) ** 0.5
        a = max(outline.long_um - radius - 11, 0) * np.cos(turn) * far
        b = max(outline.short_um - radius - 11, 0) * np.sin(turn) * far
        xy = outline.centre + np.array([a * cos - b * sin, a * sin + b * cos])
        if all(np.hypot(*(xy - other)) > radius + size + 9 for other, size in placed):
            hole = Blob(rng, xy, radius, radius * rng.uniform(0.75, 1), turn, 0.07)
            canvas.fill(hole.at(0), Compartment.LUMEN)
            if rng.random() < 0.35:
                canvas.fill(hole.at(radius * 0.35), Compartment.SECRETION)
            placed.append((xy, radius))
    return len(placed)


def vessel(
    canvas: Canvas,
    rng: np.random.Generator,
    xy: Points,
    radius_um: float,
    *,
    wall_um: float = 0.0,
    embolus: str | None = None,
) -> int:
    """A vessel along the fibres: endothelium, red cells or plasma, a muscle wall if thick, a tumour embolus if asked.

    ``embolus`` is the morphology of the tumour cells inside.
    """
    angle = float(canvas.direction(xy[None])[0])
    outline = Blob(rng, xy, radius_um * rng.uniform(1.0, 1.8), radius_um, angle, 0.08)
    index = canvas.begin("vessel", outline.at(0), lumen=True, tumour_embolus=embolus is not None)
    if wall_um:
        canvas.fill(outline.at(-wall_um), Compartment.MUSCLE, index)
        for depth in np.arange(-wall_um + 2, -1.5, 4.0):
            around, normal = along(rng, outline.at(depth), 15)
            canvas.add(nuclei(rng, "smooth_muscle", around, normal + np.pi / 2, elongation=3.6, structure=index))
    else:
        canvas.fill(outline.at(-2.5), Compartment.STROMA, index)
    inside = Compartment.BLOOD if embolus is None and rng.random() < 0.7 else Compartment.LUMEN
    canvas.fill(outline.at(0), inside, index)
    around, normal = along(rng, outline.at(-1.0), 9.5)
    canvas.add(nuclei(rng, "endothelium", around, normal + np.pi / 2, structure=index))
    if embolus is not None:
        size = radius_um * rng.uniform(0.55, 0.78)
        plug = Blob(rng, xy + rng.normal(0, 0.05 * radius_um, 2), size * 1.25, size, angle, 0.12)
        nest(canvas, plug, "embolus", embolus, pattern="embolus")
    return index


def flattened(lining: Lining, height_um: float) -> Lining:
    """The same lining, atrophic: low epithelium, nuclei along the wall."""
    return replace(lining, height_um=height_um, depth=0.5, elongation=1.3, layers=1, goblets=0.0)
