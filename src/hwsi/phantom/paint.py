"""From a drawing to pixels: stain amounts by Beer-Lambert, tile by tile.

- A tile of 1024 px is painted with a halo and then developed, so memory does not grow with the slide beyond the
  image itself; everything random is tied to a cell, a place or the slide's textures, never to the tile.
- Stain amounts are log10 optical densities along the unit vectors of haematoxylin (H) and eosin (E).
- Nothing that counts as truth is invented here: out-of-focus ghosts and cytoplasm are no cells.
"""

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from hwsi.phantom.artefacts import plan_artefacts
from hwsi.phantom.canvas import FLOW_UM, Stage
from hwsi.phantom.cells import Cells, contours_of
from hwsi.phantom.cytoplasm import Base, base_layer
from hwsi.phantom.develop import Look, develop
from hwsi.phantom.drawing import Compartment, Drawing
from hwsi.phantom.geometry import sample
from hwsi.phantom.noise import BANK_PX, Field, fresh, hex_grid, smooth
from hwsi.phantom.nuclei import stamp
from hwsi.phantom.spec import Spec

MPP = 0.5
TILE_PX = 1024
HALO_PX = 32
_RED_CELL_UM = 2.9


@dataclass
class Palette:
    """What a slide's tiles share: textures, tones, ghosts, red cells.

    Attributes:
        textures: periodic (1024, 1024) fields by name.
        density: (h//8, w//8) float32, how densely fibres lie; cleft: threshold of the gaps between them.
        ghosts: nuclei out of focus, not in the truth; red_cells: (n, 2) microns.
        cytoplasm_h: haematoxylin of epithelial cytoplasm; membrane: contrast of its borders.
        crossing: angle (rad) at which a second family of fibres crosses the first.
    """

    textures: dict[str, Field]
    density: Field
    thickness: Field
    cleft: float
    ghosts: Cells
    red_cells: NDArray[np.float64]
    cytoplasm_h: float
    membrane: float
    crossing: float


def cell_contours(drawing: Drawing) -> NDArray[np.float32]:
    """Borders of the drawing's cells as painted: (n, 20, 2) float32 in microns."""
    return contours_of(drawing.cells)


def paint(drawing: Drawing, spec: Spec, look: Look | None = None) -> NDArray[np.uint8]:
    """Paint a drawing at 0.5 um/px; fills ``drawing.artefacts`` with the masks of ``spec.artefacts``.

    Args:
        drawing: what :func:`hwsi.phantom.draw.draw` gave.
        spec: its request (seed and artefacts are used).
        look: stain and scanner; by default ``Look.from_seed(spec.seed)``.

    Returns:
        (2 * height_um, 2 * width_um, 3) uint8 RGB.
    """
    look = look or Look.from_seed(spec.seed)
    palette = _palette(drawing, spec)
    artefacts = plan_artefacts(drawing, spec)
    height, width = 2 * drawing.height_um, 2 * drawing.width_um
    image = np.empty((height, width, 3), np.uint8)
    reach = drawing.cells["ra_um"].max(initial=0) * 1.5 + HALO_PX * MPP
    x, y = drawing.cells["x_um"], drawing.cells["y_um"]
    for top in range(0, height, TILE_PX):
        for left in range(0, width, TILE_PX):
            bottom, right = min(top + TILE_PX, height), min(left + TILE_PX, width)
            box = (
                max(0, left - HALO_PX),
                max(0, top - HALO_PX),
                min(width, right + HALO_PX),
                min(height, bottom + HALO_PX),
            )
            near = (x > box[0] * MPP - reach) & (x < box[2] * MPP + reach)
            near &= (y > box[1] * MPP - reach) & (y < box[3] * MPP + reach)
            amount_h, amount_e = _amounts(drawing, palette, drawing.cells[near], box)
            rng = np.random.default_rng([spec.seed, int(Stage.DEVELOP), top, left])
            pixels = develop(amount_h, amount_e, look, artefacts, box, rng)
            image[top:bottom, left:right] = pixels[top - box[1] : bottom - box[1], left - box[0] : right - box[0]]
    return image


def _palette(drawing: Drawing, spec: Spec) -> Palette:
    rng = np.random.default_rng([spec.seed, int(Stage.PAINT)])
    shape = (drawing.height_um // 8, drawing.width_um // 8)
    textures = {name: fresh(rng, name) for name in ("fibre", "cleft", "chromatin", "grain", "blotch")}
    cells = drawing.cells
    ghosts = cells[rng.random(len(cells)) < 0.14].copy()
    ghosts["x_um"] += rng.normal(0, 4.5, len(ghosts))
    ghosts["y_um"] += rng.normal(0, 4.5, len(ghosts))
    ghosts["h"] = rng.uniform(0.14, 0.28, len(ghosts))
    red = hex_grid(rng, (0, 0, drawing.width_um, drawing.height_um), 6.3, 0.16)
    return Palette(
        textures=textures,
        density=0.2 * smooth(rng, shape, 26, 3) - np.float32(rng.uniform(0, 0.15)),
        thickness=1 + 0.05 * smooth(rng, shape, 90, 2),
        cleft=float(rng.uniform(1.15, 2.1)),
        ghosts=ghosts,
        red_cells=red[sample(drawing.compartments, red) == Compartment.BLOOD],
        cytoplasm_h=float(rng.uniform(0.11, 0.20)),
        membrane=float(rng.uniform(-0.07, 0.10)),
        crossing=float(rng.choice([-1, 1]) * rng.uniform(0.2, 0.7)),
    )


def crop(field: NDArray[np.float32], step_um: float, box: tuple[int, int, int, int], mpp: float = MPP) -> Field:
    """A coarse field (one pixel per ``step_um``) at ``mpp`` inside a box of its pixels."""
    scale = step_um / mpp
    matrix = np.array([[scale, 0, scale / 2 - box[0]], [0, scale, scale / 2 - box[1]]], np.float32)
    size = (box[2] - box[0], box[3] - box[1])
    return np.asarray(cv2.warpAffine(field, matrix, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE))


def _amounts(drawing: Drawing, palette: Palette, cells: Cells, box: tuple[int, int, int, int]) -> tuple[Field, Field]:
    """Haematoxylin and eosin of a box (x0, y0, x1, y1) of pixels, even numbers: two (h, w) float32."""
    x0, y0, x1, y1 = (v // 2 for v in box)
    shape = (box[3] - box[1], box[2] - box[0])
    compartments = drawing.compartments[y0:y1, x0:x1]
    if not compartments.any():
        return np.zeros(shape, np.float32), np.zeros(shape, np.float32)
    near = (palette.ghosts["x_um"] > x0 - 12) & (palette.ghosts["x_um"] < x1 + 12)
    near &= (palette.ghosts["y_um"] > y0 - 12) & (palette.ghosts["y_um"] < y1 + 12)
    loose = crop(drawing.extra["loose"], 8, (x0, y0, x1, y1), 1.0)
    base = base_layer(compartments, cells, palette.ghosts[near], loose, (x0, y0), palette.cytoplasm_h, palette.membrane)
    amount_h, amount_e = _texture(drawing, palette, base, box)
    _red_cells(palette, base, amount_e, box)
    stamp(amount_h, amount_e, cells, (box[0], box[1]), palette.textures["chromatin"])
    thickness = crop(palette.thickness, 8, box)
    return amount_h * thickness, amount_e * thickness


def _up(field: Field) -> Field:
    size = (field.shape[1] * 2, field.shape[0] * 2)
    return np.asarray(cv2.resize(field, size, interpolation=cv2.INTER_LINEAR))


def _tiled(texture: Field, box: tuple[int, int, int, int]) -> Field:
    """A periodic texture at a box of pixels."""
    rows = np.arange(box[1], box[3]) & (BANK_PX - 1)
    columns = np.arange(box[0], box[2]) & (BANK_PX - 1)
    return np.asarray(texture[np.ix_(rows, columns)])


def _texture(drawing: Drawing, palette: Palette, base: Base, box: tuple[int, int, int, int]) -> tuple[Field, Field]:
    """Grain, fibres and clefts on the base layer, at 0.5 um/px."""
    textures = palette.textures
    h, e = _up(base.h), _up(base.e)
    blotch = _tiled(textures["blotch"], box)
    grain = _up(base.grain) * _tiled(textures["grain"], box)
    e += grain
    h += 0.55 * grain
    e *= 1 + np.float32(0.09) * blotch
    h *= 1 + np.float32(0.15) * blotch
    if base.fibre.any():
        warp = drawing.extra["warp"]
        # fibres wave at their own scale, and their bundles cross at places
        wave = 3.0 * blotch
        u = crop(warp[0], FLOW_UM, box) / MPP
        v = crop(warp[1], FLOW_UM, box) / MPP + wave
        loose = crop(palette.density, 8, box)
        cos, sin = np.float32(np.cos(palette.crossing)), np.float32(np.sin(palette.crossing))
        crossing = _looked_up(textures["fibre"], u * cos + v * sin, v * cos - u * sin)
        fibre = np.float32(0.8) * _looked_up(textures["fibre"], u, v)
        fibre += np.clip(0.3 + 1.8 * loose, 0, 0.8) * crossing
        fibre *= _up(base.fibre)
        e += fibre
        cleft = _up(base.cleft)
        e *= 1 + cleft * loose
        h *= 1 + 0.5 * cleft * loose
        gap = _looked_up(textures["cleft"], u, v) - 0.4 * np.minimum(fibre * 6, 1) - 0.9 * loose
        keep = 1 - np.clip((gap - palette.cleft) * 2.2, 0, 1) * cleft * np.float32(0.93)
        e *= keep
        h *= keep
    secreted = _up(base.secretion)
    if secreted.any():  # wisps and clumps, not a plate
        e *= 1 - secreted * np.clip(0.45 - 0.5 * blotch, 0, 1)
        h *= 1 - secreted * np.clip(0.45 - 0.5 * blotch, 0, 1)
    if base.keratin.any():
        depth = _up(base.keratin)
        lamella = np.sin(depth * np.float32(1.15) + 1.8 * blotch)
        e += (depth > 0.5) * np.float32(0.075) * lamella
    return np.maximum(h, 0), np.maximum(e, 0)


def _looked_up(texture: Field, u: NDArray[Any], v: NDArray[Any]) -> Field:
    """A periodic texture at coordinates (u, v)."""
    u, v = (part - BANK_PX * np.floor(part * np.float32(1 / BANK_PX)) for part in (u, v))
    return np.asarray(cv2.remap(texture, u, v, cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP))


def _red_cells(palette: Palette, base: Base, amount_e: Field, box: tuple[int, int, int, int]) -> None:
    """Red cells as discs; plasma between them is nearly clear."""
    if not base.blood.any():
        return
    discs = np.zeros(amount_e.shape, np.uint8)
    px = palette.red_cells / MPP - [box[0], box[1]]
    size = np.array([box[2] - box[0], box[3] - box[1]])
    for x, y in px[((px > -8) & (px < size + 8)).all(1)]:
        cv2.circle(discs, (int(x * 16), int(y * 16)), int(16 * _RED_CELL_UM / MPP), 1, -1, shift=4)
    blood = _up(base.blood.astype(np.float32)) > 0.5
    amount_e[blood] *= np.where(discs[blood] > 0, np.float32(1), np.float32(0.1))
