"""What an encoder of each scale takes and gives: protocols, so that any library's model can be wrapped.

- Every encoder carries its ``spec``; ``encode`` runs without gradients, ``forward`` (of our own) with.
- Torch tensors in and out, except for cells: finding nuclei is image work on numpy arrays.

Notation: B batch, T patches of a region, R regions of a slide, D width of an encoder's output, m cells.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from hwsi.encoders.registry import EncoderSpec

if TYPE_CHECKING:
    from torch import Tensor


@runtime_checkable
class PatchEncoder(Protocol):
    """Pixels of a patch to a vector."""

    spec: EncoderSpec

    def encode(self, images: "Tensor") -> "Tensor":
        """``images`` uint8 (B, H, W, 3), RGB at ``spec.mpp`` -> float32 (B, D)."""
        ...


@runtime_checkable
class RegionEncoder(Protocol):
    """Patch vectors of a region to a vector."""

    spec: EncoderSpec

    def encode(self, patches: "Tensor", mask: "Tensor", row_col: "Tensor") -> "Tensor":
        """``patches`` (B, T, Dp), ``mask`` bool (B, T) True where present, ``row_col`` int (B, T, 2) -> (B, D).

        With ``spec.with_cells``, Dp is the width of a patch vector and that of ``summarise_cells`` together.
        """
        ...


@runtime_checkable
class SlideEncoder(Protocol):
    """Region vectors of a slide to a vector."""

    spec: EncoderSpec

    def encode(self, regions: "Tensor", mask: "Tensor", centre_mm: "Tensor") -> "Tensor":
        """``regions`` (B, R, Dr), ``mask`` bool (B, R), ``centre_mm`` float (B, R, 2) as x, y -> (B, D).

        With ``spec.with_tissue``, Dr is the width of a region vector and the two columns of ``summarise_tissue``.
        """
        ...


@runtime_checkable
class CellFusion(Protocol):
    """Vectors of the cells of a patch to one vector, where that is done before the model."""

    spec: EncoderSpec

    def __call__(self, cells: "Tensor", mask: "Tensor") -> "Tensor":
        """``cells`` (B, K, Dc), ``mask`` bool (B, K) True where there is a cell -> (B, D), zero without any."""
        ...


@runtime_checkable
class TextEncoder(Protocol):
    """Texts to vectors of unit length."""

    spec: EncoderSpec

    def encode(self, texts: list[str]) -> "Tensor":
        """``texts`` (B of them) -> float32 (B, E), rows of length one."""
        ...


@dataclass(frozen=True)
class CellSet:
    """Cells of one image, in reading order of their centroids' pixel rows.

    Attributes:
        xy: (m, 2) float32, centroids in pixels of the image handed in (centre of the first pixel is 0, 0).
        contours: m arrays (v, 2) float32, outlines in the same pixels, not closed, v >= 3.
        area_um2: (m,) float32, area of the nucleus.
        type: (m,) int64, index into :data:`hwsi.hierarchy.tree.CELL_TYPES`.
        type_prob: (m,) float32, probability of that type.
        features: (m, D) float32.
    """

    xy: NDArray[np.float32]
    contours: list[NDArray[np.float32]]
    area_um2: NDArray[np.float32]
    type: NDArray[np.int64]
    type_prob: NDArray[np.float32]
    features: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.xy)


@runtime_checkable
class CellEncoder(Protocol):
    """Pixels to the cells in them, each with outline, type and vector."""

    spec: EncoderSpec

    def encode(
        self, image: NDArray[np.uint8], mpp: float, core: tuple[float, float, float, float] | None = None
    ) -> CellSet:
        """``image`` uint8 (H, W, 3), RGB at ``mpp``; of its cells, those with the centroid inside ``core``.

        ``core`` is (x0, y0, x1, y1) in pixels of the image, half-open (None: the whole image). Hand in a core with
        a halo around it: then each cell of a tiled slide is found whole, and once.
        """
        ...
