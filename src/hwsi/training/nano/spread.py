"""Noise for vectors of regions and slides, as much in every direction as the vectors themselves vary there.

A few hundred slides are soon known by heart, each by what is peculiar to it in directions that tell nothing. Noise
takes these away and leaves what is told by a direction along which classes lie apart.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]


class Spread:
    """How the vectors of a cohort vary.

    Args:
        vectors: (n, D) float32, of all regions or of all slides.
    """

    def __init__(self, vectors: Floats) -> None:
        values, directions = np.linalg.eigh(np.cov(vectors.astype(np.float64), rowvar=False))
        self._root: Floats = (directions * np.sqrt(np.maximum(values, 0))).astype(np.float32)

    def blurred(self, vectors: Floats, amount: float, rng: np.random.Generator) -> Floats:
        """``(..., D)`` vectors with noise whose covariance is ``amount`` squared times that of the cohort."""
        noise = rng.standard_normal(vectors.shape, dtype=np.float32)
        return vectors + np.float32(amount) * (noise @ self._root.T)


def spread_of(vectors: Sequence[Floats]) -> Spread:
    """Of vectors (D,) or arrays of them (n, D)."""
    return Spread(np.vstack(vectors))
