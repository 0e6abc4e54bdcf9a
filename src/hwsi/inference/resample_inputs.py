"""What the visual part of a resampling model reads of a slide, and the same with regions or patches left out.

- The model's tokens are made of all regions, so tissue is left out before them: masked, and out of the slide's vector
  where that is the mean of the regions (the release's is), for there it would still speak.
- A patch goes with its cells: one vector of them is fused for each.

Notation: R regions, C kept patches of a region, N nodes (0 plain text, 1 the slide), B keep masks; widths D.
"""

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hwsi.features import SlideFeatures
from hwsi.features.released import kept_rows
from hwsi.hierarchy.labels import patch_label, region_label
from hwsi.inference.evidence import Bool
from hwsi.model.attention import SLIDE_NODE, TEXT_NODE
from hwsi.model.prompt import Node
from hwsi.model.resample import ResampleBatch

_NO_NODE = -1
_SAME = 1e-4


class ResampleInputs:
    """The quadruplet of a slide under masks.

    Attributes:
        nodes: text, slide, then every region that is read, each followed by its kept patches.

    Args:
        features: of the slide. patch_encoder: id of the encoder of its patches.
        visual: features and masks, of :meth:`hwsi.model.resample_processor.HwsiResampleProcessor.visual`.
    """

    def __init__(self, features: SlideFeatures, patch_encoder: str, visual: Mapping[str, Tensor]) -> None:
        self._slide, self._region = visual["slide_features"], visual["region_features"]
        self._patch, self._cell = visual["patch_features"], visual["cell_features"]
        everything = torch.ones(self._patch.shape[:2], dtype=torch.bool)
        # without masks (the release's way) all that there is is read
        self._region_mask = visual.get("region_mask", everything[:, 0])
        self._patch_mask, self._cell_mask = (visual.get(f"{s}_mask", everything) for s in ("patch", "cell"))
        mean = self._region.mean(0)
        self._is_mean = self._slide.shape == mean.shape and bool(
            (self._slide - mean).abs().max() <= _SAME * mean.abs().max()
        )
        rows = kept_rows(features, features.patch[patch_encoder])
        self._region_node = np.full(len(rows), _NO_NODE, np.int64)
        self._patch_node = np.full(rows.shape, _NO_NODE, np.int64)
        self.nodes = self._lay_out(features, rows)

    def __len__(self) -> int:
        return len(self.nodes)

    def whole(self) -> ResampleBatch:
        """The slide as it is: one row."""
        return ResampleBatch(
            slide_features=self._slide[None],
            region_features=self._region[None],
            patch_features=self._patch[None],
            cell_features=self._cell[None],
            region_mask=self._region_mask[None],
            patch_mask=self._patch_mask[None],
            cell_mask=self._cell_mask[None],
        )

    def has_region(self, keep: Bool) -> NDArray[np.bool_]:
        """Which of the keep masks (B, N) leave a region to read: (B,)."""
        return np.asarray(keep[:, self._region_node[self._region_node != _NO_NODE]].any(1))

    def keeping(self, keep: Bool) -> ResampleBatch:
        """The slide under keep masks (B, N), each of which leaves a region."""
        b = len(keep)
        region_mask, patch_mask = self._kept(keep, self._region_node), self._kept(keep, self._patch_node)
        slide = self._slide.expand(b, -1)
        if self._is_mean:
            share = region_mask.float()
            slide = share @ self._region / share.sum(1, keepdim=True)
        return ResampleBatch(
            slide_features=slide,
            region_features=self._region.expand(b, -1, -1),
            patch_features=self._patch.expand(b, -1, -1, -1),
            cell_features=self._cell.expand(b, -1, -1, -1),
            region_mask=region_mask,
            patch_mask=patch_mask,
            cell_mask=patch_mask & self._cell_mask,
        )

    def _lay_out(self, features: SlideFeatures, rows: NDArray[np.int64]) -> tuple[Node, ...]:
        tree = features.hierarchy
        cols = tree.region_px // tree.patch_px
        nodes = [Node("text", "", 0, TEXT_NODE), Node("slide", "", 0, TEXT_NODE)]
        for r in np.flatnonzero(self._region_mask.numpy()).tolist():
            self._region_node[r] = above = len(nodes)
            nodes.append(Node("region", region_label(r), r, SLIDE_NODE))
            for c in np.flatnonzero(self._patch_mask[r].numpy() & (rows[r] >= 0)).tolist():
                self._patch_node[r, c] = len(nodes)
                row, col = tree.patches.row_col[rows[r, c]].tolist()
                nodes.append(Node("patch", patch_label(r, row, col, cols), int(rows[r, c]), above))
        return tuple(nodes)

    def _kept(self, keep: Bool, node: NDArray[np.int64]) -> Tensor:
        """Keep masks (B, N) as masks over what has the nodes ``node`` (...): (B, ...)."""
        return torch.from_numpy(keep[:, node] & (node != _NO_NODE))
