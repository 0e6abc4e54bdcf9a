"""Closed outlines in microns: perturbed ellipses and test tubes, each known at every depth from its border.

- An outline gives its contour at a depth, so that one gland is one object: base at 0, lumen at the height of
  its epithelium, nuclei in between.
- Points along a contour come with the direction of its normal, along which epithelial nuclei stand.
"""

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Points = NDArray[np.float64]


class Outline(Protocol):
    """A closed curve with an inside."""

    def at(self, depth_um: float) -> Points:
        """Contour (v, 2) at a depth below the border; negative depths lie outside."""

    @property
    def room_um(self) -> float:
        """Half of the smallest width: depths beyond it do not exist."""

    @property
    def centre(self) -> Points:
        """(2,), a point inside."""


class Blob:
    """An ellipse with harmonics 2 to 7 of random phase on its radius; ``folds`` push its inside into papillae."""

    def __init__(
        self,
        rng: np.random.Generator,
        centre: Points,
        long_um: float,
        short_um: float,
        angle: float,
        irregularity: float,
        folds: float = 0.0,
    ) -> None:
        self._centre = np.asarray(centre, np.float64)
        self.long_um, self.short_um, self.angle = float(long_um), float(short_um), float(angle)
        self._turn = np.linspace(0, 2 * np.pi, 64, endpoint=False)
        radius = np.ones_like(self._turn)
        for harmonic in (2, 3, 4, 5, 7):
            amplitude = irregularity * rng.normal() / harmonic**0.9
            radius += amplitude * np.cos(harmonic * self._turn + rng.uniform(0, 2 * np.pi))
        self._radius = np.clip(radius, 0.4, 1.8)
        # papillae: the deeper, the more the wall reaches inwards
        at, height = rng.uniform(0, 2 * np.pi, 7), rng.uniform(-0.3, 1.3, 7)
        apart = (self._turn[:, None] - at + np.pi) % (2 * np.pi) - np.pi
        wave = (height * np.exp(-((apart / rng.uniform(0.16, 0.4, 7)) ** 2))).sum(1)
        self._folds = folds * np.clip(wave, -0.4, 1.4)

    @property
    def centre(self) -> Points:
        """(2,), centre of the ellipse."""
        return self._centre

    @property
    def room_um(self) -> float:
        """Half of the short axis."""
        return min(self.long_um, self.short_um)

    @property
    def area_um2(self) -> float:
        """Area inside the border."""
        return float(np.pi * self.long_um * self.short_um * np.mean(self._radius**2))

    def at(self, depth_um: float) -> Points:
        """Contour (64, 2) at a depth."""
        radius = self._radius * (1 - self._folds * np.clip(depth_um / 16, 0, 1))
        x = np.maximum(self.long_um - depth_um, 0.5) * radius * np.cos(self._turn)
        y = np.maximum(self.short_um - depth_um, 0.5) * radius * np.sin(self._turn)
        cos, sin = np.cos(self.angle), np.sin(self.angle)
        return np.stack([self._centre[0] + x * cos - y * sin, self._centre[1] + x * sin + y * cos], 1)


class Tube:
    """A test tube: open end at the first point of its spine, round bottom beyond the last one."""

    def __init__(self, rng: np.random.Generator, spine: Points, half_width_um: float, irregularity: float) -> None:
        self._spine = np.asarray(spine, np.float64)
        step = np.gradient(self._spine, axis=0)
        step /= np.maximum(np.hypot(step[:, 0], step[:, 1])[:, None], 1e-6)
        self._along = step
        self._across = np.stack([-step[:, 1], step[:, 0]], 1)
        n = len(spine)
        s = np.linspace(0, 1, n)
        self.half_width_um = float(half_width_um)
        wobble = [rng.normal(0, irregularity) * np.cos(k * np.pi * s + rng.uniform(0, 6.28)) for k in (2, 3, 5)]
        self._width = half_width_um * np.clip(1 + np.sum(wobble, 0), 0.6, 1.5)

    @property
    def centre(self) -> Points:
        """(2,), middle of the spine."""
        return np.asarray(self._spine[len(self._spine) // 2])

    @property
    def room_um(self) -> float:
        """Half of the width."""
        return self.half_width_um

    def at(self, depth_um: float) -> Points:
        """Contour (v, 2) at a depth; the open end stays where it is."""
        width = np.maximum(self._width - depth_um, 0.5)[:, None]
        left, right = self._spine + self._across * width, self._spine - self._across * width
        turn = np.linspace(0, np.pi, 9)[1:-1, None]
        bottom = self._spine[-1] + width[-1] * (np.cos(turn) * self._across[-1] + np.sin(turn) * self._along[-1])
        return np.vstack([left, bottom, right[::-1]])


def along(rng: np.random.Generator, contour: Points, spacing_um: float, jitter: float = 0.15) -> tuple[Points, Any]:
    """Evenly spaced points on a closed contour, and the angle of its normal there: (n, 2), (n,)."""
    closed = np.vstack([contour, contour[:1]])
    length = np.r_[0, np.cumsum(np.hypot(*np.diff(closed, axis=0).T))]
    total = length[-1]
    n = max(3, int(total / spacing_um))
    place = (np.arange(n) + rng.uniform() + rng.normal(0, jitter, n)) / n * total % total
    ahead = (place + 0.02 * total + 0.5) % total
    x, y = np.interp(place, length, closed[:, 0]), np.interp(place, length, closed[:, 1])
    dx, dy = np.interp(ahead, length, closed[:, 0]) - x, np.interp(ahead, length, closed[:, 1]) - y
    return np.stack([x, y], 1), np.arctan2(dy, dx) + np.pi / 2


def sample(field: NDArray[Any], xy_um: Points, step_um: float = 1) -> NDArray[Any]:
    """Values of a map with one pixel per ``step_um`` at points (n, 2); points outside take the border's value."""
    rows = np.clip((xy_um[:, 1] / step_um).astype(np.intp), 0, field.shape[0] - 1)
    columns = np.clip((xy_um[:, 0] / step_um).astype(np.intp), 0, field.shape[1] - 1)
    return field[rows, columns]
