"""Random textures: smooth fields for layouts, periodic banks for fibres, grain and chromatin.

- A bank is built once per process from a fixed seed; every slide mixes two shifted and mirrored copies of it at
  a random angle, which is Gaussian again, so that no two slides share a texture and none can be told by it.
- Fields are cubic upsampled lattices: cheap at any size, smooth at a chosen wavelength.
"""

from functools import cache

import cv2
import numpy as np
from numpy.typing import NDArray

Field = NDArray[np.float32]
Points = NDArray[np.float64]

BANK_PX = 1024  # a power of two: positions wrap by a bit mask
_BANK_SEED = 20260101


def smooth(rng: np.random.Generator, shape: tuple[int, int], wavelength: float, octaves: int = 1) -> Field:
    """Smooth noise (h, w), about unit variance at the first octave; ``wavelength`` in its own pixels."""
    height, width = shape
    out = np.zeros(shape, np.float32)
    for octave in range(octaves):
        rows = max(4, int(height * 2**octave / wavelength) + 3)
        columns = max(4, int(width * 2**octave / wavelength) + 3)
        lattice = rng.standard_normal((rows, columns), dtype=np.float32)
        out += cv2.resize(lattice, (width, height), interpolation=cv2.INTER_CUBIC) * np.float32(0.5**octave)
    return out


def hex_grid(
    rng: np.random.Generator, box: tuple[float, float, float, float], spacing: float, jitter: float = 0.25
) -> Points:
    """Points (n, 2) of a jittered, randomly turned hexagonal grid inside ``box`` = (x0, y0, x1, y1)."""
    x0, y0, x1, y1 = box
    turn = rng.uniform(0, np.pi)
    reach = int(np.hypot(x1 - x0, y1 - y0) / 2 / (spacing * 0.866)) + 2
    row, column = np.mgrid[-reach : reach + 1, -reach : reach + 1].astype(np.float64)
    x, y = (column + 0.5 * (row % 2)) * spacing, row * spacing * 0.866
    points = np.stack(
        [
            x * np.cos(turn) - y * np.sin(turn) + (x0 + x1) / 2,
            x * np.sin(turn) + y * np.cos(turn) + (y0 + y1) / 2,
        ],
        -1,
    ).reshape(-1, 2)
    points += rng.normal(0, jitter * spacing, points.shape)
    inside = (points[:, 0] >= x0) & (points[:, 0] < x1) & (points[:, 1] >= y0) & (points[:, 1] < y1)
    return points[inside]


def _anisotropic(rng: np.random.Generator, along_px: float, across_px: float) -> Field:
    """Periodic Gaussian noise with its own correlation length along x and y; zero mean, unit variance."""
    fx = np.fft.rfftfreq(BANK_PX)[None, :]
    fy = np.fft.fftfreq(BANK_PX)[:, None]
    gain = np.exp(-2 * np.pi**2 * ((fx * along_px) ** 2 + (fy * across_px) ** 2))
    spectrum = np.fft.rfft2(rng.standard_normal((BANK_PX, BANK_PX))) * gain
    field = np.fft.irfft2(spectrum, s=(BANK_PX, BANK_PX))
    return np.asarray((field - field.mean()) / field.std(), np.float32)


def _unit(field: Field) -> Field:
    return np.asarray((field - field.mean()) / field.std())


@cache
def _bank() -> dict[str, Field]:
    rng = np.random.default_rng(_BANK_SEED)
    return {
        # collagen: short wavy bundles; long correlation along the fibre would read as wood
        "fibre": _unit(0.55 * _anisotropic(rng, 13, 1.1) + 0.55 * _anisotropic(rng, 20, 2.4)
                       + 0.35 * _anisotropic(rng, 26, 6)),
        "cleft": _unit(0.9 * _anisotropic(rng, 17, 2.2) + 0.6 * _anisotropic(rng, 30, 5)),
        "chromatin": _unit(0.75 * _anisotropic(rng, 1.0, 1.0) + 0.65 * _anisotropic(rng, 2.2, 2.2)),
        "grain": _unit(0.8 * _anisotropic(rng, 0.6, 0.6) + 0.5 * _anisotropic(rng, 1.6, 1.6)
                       + 0.4 * _anisotropic(rng, 5, 5)),
        "blotch": _unit(_anisotropic(rng, 9, 9) + _anisotropic(rng, 22, 22)),
        "sensor": _anisotropic(rng, 0.35, 0.35),
    }  # fmt: skip


def fresh(rng: np.random.Generator, name: str) -> Field:
    """A new (1024, 1024) periodic texture from a bank: two moved and mirrored copies, mixed at a random angle."""
    angle = rng.uniform(0, 2 * np.pi)
    mixed = np.float32(np.cos(angle)) * _moved(rng, name)
    mixed += np.float32(np.sin(angle)) * _moved(rng, name)
    return mixed


def _moved(rng: np.random.Generator, name: str) -> Field:
    field = _bank()[name]
    field = field[:: 1 if rng.random() < 0.5 else -1, :: 1 if rng.random() < 0.5 else -1]
    shift = tuple(int(s) for s in rng.integers(0, BANK_PX, 2))
    return np.roll(field, shift, (0, 1))
