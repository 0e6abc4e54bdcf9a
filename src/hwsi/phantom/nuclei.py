"""Nuclei onto stain amounts, many at once: windows of equal size, no loop over cells.

- The border is that of :func:`hwsi.phantom.cells.border_radius`, its harmonics summed once per cell.
- Dividing cells get arms from the chromatin texture, plasma cells a clock face.
- Where nuclei overlap, the more opaque wins, then the one with the larger random number: never the order of painting,
  so that tiles agree.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from hwsi.phantom.cells import Cells
from hwsi.phantom.drawing import CellKind
from hwsi.phantom.noise import BANK_PX, Field

_PX_PER_UM = np.float32(2.0)
_CHUNK_PX = 300_000
_MASK = BANK_PX * BANK_PX - 1


def stamp(amount_h: Field, amount_e: Field, cells: Cells, origin_px: tuple[int, int], chromatin: Field) -> None:
    """Paint nuclei into two stain amounts (h, w) at 0.5 um/px, in place; ``origin_px`` is their corner."""
    behind = amount_h.copy(), amount_e.copy()
    rank = np.zeros(amount_h.shape, np.int32)
    reach = np.maximum(cells["ra_um"], cells["rb_um"]) * _PX_PER_UM * 1.4 + 2
    window = (np.ceil(reach / 4) * 4).astype(np.intp)
    for size in np.unique(window):
        rows = np.flatnonzero(window == size)
        offset = np.mgrid[-size : size + 1, -size : size + 1].reshape(2, 1, -1).astype(np.float32)
        step = max(1, _CHUNK_PX // offset.shape[2])
        for start in range(0, len(rows), step):
            chunk = cells[rows[start : start + step]]
            _stamp_chunk((amount_h, amount_e), behind, rank, chunk, offset, origin_px, chromatin)


def _per_cell(cells: Cells) -> NDArray[np.float32]:
    """What the pixels of a cell need: rows are harmonics (5), stain and chromatin (8), flags (2)."""
    phase, wobble, irregularity = cells["phase"], cells["wobble"], cells["irregularity"]
    size = _PX_PER_UM * np.sqrt(cells["ra_um"] * cells["rb_um"])
    return np.stack([
        irregularity * wobble[:, 0] * np.cos(phase[:, 0]),
        irregularity * wobble[:, 0] * np.sin(phase[:, 0]),
        irregularity * wobble[:, 1] * np.cos(phase[:, 1]),
        irregularity * wobble[:, 1] * np.sin(phase[:, 1]),
        irregularity * wobble[:, 2] * np.float32(0.6),
        size,
        cells["h"],
        cells["e"],
        cells["texture"],
        cells["rim"],
        cells["nucleolus"],
        cells["nucleolus_at"][:, 0],
        cells["nucleolus_at"][:, 1],
        np.where(cells["kind"] == CellKind.MITOSIS, 0.16, 0.0),
        np.where(cells["kind"] == CellKind.PLASMA, 0.25, 0.0),
    ]).astype(np.float32)  # fmt: skip


def _stamp_chunk(
    amounts: tuple[Field, Field],
    behind: tuple[Field, Field],
    rank: NDArray[np.int32],
    cells: Cells,
    offset: Any,
    origin_px: tuple[int, int],
    chromatin: Field,
) -> None:
    height, width = rank.shape
    # a micron coordinate x lies at pixel coordinate 2x, whose pixel centre is at +0.5
    x = cells["x_um"][:, None] * _PX_PER_UM - np.float32(0.5 + origin_px[0])
    y = cells["y_um"][:, None] * _PX_PER_UM - np.float32(0.5 + origin_px[1])
    column, row = np.round(x) + offset[1], np.round(y) + offset[0]
    dx, dy = column - x, row - y
    cos, sin = np.cos(cells["theta"])[:, None], np.sin(cells["theta"])[:, None]
    scale_u = 1 / (_PX_PER_UM * cells["ra_um"][:, None])
    scale_v = 1 / (_PX_PER_UM * cells["rb_um"][:, None])
    u = dx * (cos * scale_u) + dy * (sin * scale_u)
    v = dy * (cos * scale_v) - dx * (sin * scale_v)
    r2 = u * u + v * v
    inside = (r2 < 2.3) & (column >= 0) & (row >= 0) & (column < width) & (row < height)
    which = np.nonzero(inside)[0]
    u, v, radius = u[inside], v[inside], np.sqrt(r2[inside]) + np.float32(1e-4)
    column, row = column[inside].astype(np.int32), row[inside].astype(np.int32)
    own = _per_cell(cells)
    cos, sin = u / radius, v / radius
    cos2, sin2 = 2 * cos * cos - 1, 2 * sin * cos
    cos3, sin3 = cos * cos2 - sin * sin2, sin * cos2 + cos * sin2
    a, b, c, d, shift, size = own[:6, which]
    border = np.clip(1 + a * cos2 + b * sin2 + c * cos3 + d * sin3 + shift * cos, 0.6, 1.5)
    at_row, at_column = (row + origin_px[1]) & (BANK_PX - 1), (column + origin_px[0]) & (BANK_PX - 1)
    place = cells["chromatin"][which] + at_row * BANK_PX + at_column
    texture = chromatin.ravel()[place & _MASK]
    arms = own[13, which]
    rho = radius / border * (1 - arms * np.clip(texture, -2, 2))
    alpha = np.clip((1 - rho) * size * np.float32(1 / 1.5) + np.float32(0.5), 0, 1)
    own_rank = ((alpha * 1000).astype(np.int32) << 20) + cells["chromatin"][which]
    pixel = row * width + column
    flat_rank = rank.reshape(-1)
    np.maximum.at(flat_rank, pixel, own_rank)
    seen = (alpha > 0) & (flat_rank[pixel] == own_rank)
    u, v, rho, alpha, texture, size, cos3, which = (
        part[seen] for part in (u, v, rho, alpha, texture, size, cos3, which)
    )
    pixel = pixel[seen]
    h, e, contrast, rim, prominence, nu, nv, _, clock = own[6:, which]
    spot = np.exp(((u - nu) ** 2 + (v - nv) ** 2) * size**2 * np.float32(-0.2)) * prominence
    amount = h * (1 - np.float32(0.2) * np.minimum(prominence * 2, 1) * (rho < 0.8)) * (1 + contrast * texture)
    amount += rim * np.exp(-(((rho - np.float32(0.9)) * np.float32(1 / 0.13)) ** 2)) + np.float32(0.5) * spot
    # the clock face of plasma cells: clumps along the membrane
    amount *= 1 + clock * (rho > 0.4) * (2 * cos3 * cos3 - 1)
    np.clip(amount, 0.03, 1.5, out=amount)
    layers = (amount, e + np.float32(0.12) * spot)
    for target, source, layer in zip(amounts, behind, layers, strict=True):
        target.reshape(-1)[pixel] = source.reshape(-1)[pixel] * (1 - alpha) + layer * alpha
