"""The tensors of one slide that the visual part reads, from its tree and features.

Notation: R regions, P kept patches, K the most cells of a kept patch, Ds Dr Dp Dc widths of the features, X further
scales and W the sum of their widths.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hwsi.errors import HwsiError, Reason
from hwsi.hierarchy.tree import Hierarchy
from hwsi.model.config import SCALES

if TYPE_CHECKING:
    from hwsi.features import SlideFeatures

Arrays = dict[str, NDArray[np.float32]]


def arrays_of(
    slide: "SlideFeatures", encoders: Mapping[str, str], dims: Mapping[str, int], extra: Mapping[str, int]
) -> Arrays:
    """Scale -> features of the encoder that a model reads; of the further scales those that the slide has.

    Args:
        slide: its features. encoders: of the four scales. dims, extra: widths of the four, and of the further scales.

    Raises:
        HwsiError: FEATURES_MISMATCH (one of the four is missing, or one has another width).
    """
    arrays = {}
    wanted = [(scale, encoders[scale], dims[scale]) for scale in SCALES]
    wanted += [("slide", name, dim) for name, dim in extra.items() if name in slide.slide]
    for scale, encoder, dim in wanted:
        stored = getattr(slide, scale)
        if encoder not in stored:
            raise HwsiError(
                Reason.FEATURES_MISMATCH,
                f"features of slide {slide.slide_name} have no {scale} encoder '{encoder}'"
                f" (they have: {', '.join(sorted(stored)) or 'none'})",
                "encode the slide with the model's preset",
            )
        width = stored[encoder].shape[-1]
        if width != dim:
            raise HwsiError(
                Reason.FEATURES_MISMATCH,
                f"{scale} features '{encoder}' are {width} wide, the model reads {dim}",
                "encode the slide with the model's preset",
            )
        arrays[encoder if encoder in extra else scale] = stored[encoder]
    return arrays


def slide_inputs(
    tree: Hierarchy, arrays: Arrays, kept: NDArray[np.int64], max_cells: int, extra: Mapping[str, int] | None = None
) -> dict[str, Tensor]:
    """Tensors without a batch axis, named and shaped as :class:`hwsi.model.visual.VisualBatch` says.

    Args:
        tree: of the slide, with its cells.
        arrays: slide (Ds,), region (R, Dr), patch (N, Dp), cell (M, Dc), and the further scales that there are.
        kept: (P,) rows of patches.
        max_cells: a patch with more is thinned evenly; ``cell_count`` keeps the true number.
        extra: further scale -> width, of the model.
    """
    extra = extra or {}
    patches, cells = tree.patches, tree.cells
    offsets = cells.of_patch(len(patches))
    counts = offsets[kept + 1] - offsets[kept]
    k = int(min(counts.max(initial=0), max_cells))
    cell_features = np.zeros((len(kept), k, arrays["cell"].shape[-1]), np.float32)
    cell_mask = np.zeros((len(kept), k), np.bool_)
    cell_xy = np.zeros((len(kept), k, 2), np.float32)
    for i, (n, count) in enumerate(zip(kept, counts, strict=True)):
        m = int(min(count, k))
        # even steps over the stored order: a share of every kind of cell, and the same ones every time
        rows = offsets[n] + np.arange(m) * count // max(m, 1)
        cell_features[i, :m] = arrays["cell"][rows]
        cell_xy[i, :m] = np.clip((cells.xy[rows] - patches.xy[n]) / patches.size0, 0, 1)
        cell_mask[i, :m] = True
    size = np.array([[tree.width0, tree.height0]], np.float64)
    region_mm = tree.centre_mm(tree.regions.xy, tree.regions.size0)
    # places count from the middle of the tissue: where it lies on the glass says nothing
    middle = region_mm.mean(0, keepdims=True) if len(region_mm) else tree.centre_mm(size / 2)
    out: dict[str, Any] = {
        "slide_features": np.array(arrays["slide"], np.float32),
        "slide_mask": np.array(True),
        "slide_mm": (tree.centre_mm(size / 2) - middle)[0],
        "region_features": np.array(arrays["region"], np.float32),
        "region_mask": np.ones(len(tree.regions), np.bool_),
        "region_mm": region_mm - middle,
        "patch_features": arrays["patch"][kept],
        "patch_mask": np.ones(len(kept), np.bool_),
        "patch_mm": tree.centre_mm(patches.xy[kept], patches.size0) - middle,
        "cell_features": cell_features,
        "cell_mask": cell_mask,
        "cell_xy": cell_xy,
        "cell_count": counts.astype(np.int64),
        "extra_features": np.concatenate(
            [np.zeros(0, np.float32), *(arrays.get(name, np.zeros(dim, np.float32)) for name, dim in extra.items())]
        ),
        "extra_mask": np.array([name in arrays for name in extra], np.bool_),
    }
    return {name: torch.from_numpy(np.asarray(value)) for name, value in out.items()}


def empty_inputs(dims: Mapping[str, int], extra: Mapping[str, int]) -> dict[str, Tensor]:
    """The same for a row without a slide: nothing is there."""
    return {
        "slide_features": torch.zeros(dims["slide"]),
        "slide_mask": torch.tensor(False),
        "slide_mm": torch.zeros(2),
        "region_features": torch.zeros(0, dims["region"]),
        "region_mask": torch.zeros(0, dtype=torch.bool),
        "region_mm": torch.zeros(0, 2),
        "patch_features": torch.zeros(0, dims["patch"]),
        "patch_mask": torch.zeros(0, dtype=torch.bool),
        "patch_mm": torch.zeros(0, 2),
        "cell_features": torch.zeros(0, 0, dims["cell"]),
        "cell_mask": torch.zeros(0, 0, dtype=torch.bool),
        "cell_xy": torch.zeros(0, 0, 2),
        "cell_count": torch.zeros(0, dtype=torch.int64),
        "extra_features": torch.zeros(sum(extra.values())),
        "extra_mask": torch.zeros(len(extra), dtype=torch.bool),
    }
