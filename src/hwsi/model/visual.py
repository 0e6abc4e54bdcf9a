"""The visual part: features of four encoders in, tokens of the language model's width out.

- To each projected token its scale's embedding and the Fourier embedding of its centre are added, so that the
  language model knows what a token is and where it lies.
- Inputs are padded per row (one row, one slide), never packed over the batch: whatever repeats rows (beams,
  several returned sequences, a data-parallel split) then repeats slides rightly, without being told.
- Only what is present is computed; a batch in which nothing is present still reaches every parameter with a
  zero gradient, so that ranks of a distributed run agree on which parameters were used.

Notation: B rows, R regions and P kept patches of a row (padded), K cells of a patch (padded), D width of the
language model, Ds Dr Dp Dc widths of the features.
"""

# mypy: disable-error-code="no-untyped-call"
# (much of transformers is not annotated)

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers import initialization as init

from hwsi.model.ccaf import Ccaf
from hwsi.model.config import SCALES, HwsiVisualConfig
from hwsi.model.projectors import FourierPlace, Projector


@dataclass(frozen=True)
class VisualBatch:
    """What the visual part reads; the processor makes it, the model takes its fields as keyword arguments.

    Attributes:
        slide_features: (B, Ds) float. slide_mask: (B,) bool, False for a row of text only. slide_mm: (B, 2)
            float; places in mm from the middle of the regions.
        region_features: (B, R, Dr) float. region_mask: (B, R) bool. region_mm: (B, R, 2) float, centres.
        patch_features: (B, P, Dp) float. patch_mask: (B, P) bool. patch_mm: (B, P, 2) float, centres.
        cell_features: (B, P, K, Dc) float. cell_mask: (B, P, K) bool. cell_xy: (B, P, K, 2) float in [0, 1],
            the place inside the patch. cell_count: (B, P) int64, how many cells the patch has, also beyond K.
        extra_features: (B, W) float, vectors of the further scales side by side, W the sum of their widths.
            extra_mask: (B, X) bool, which of these X scales the slide has.
    """

    slide_features: Tensor
    slide_mask: Tensor
    slide_mm: Tensor
    region_features: Tensor
    region_mask: Tensor
    region_mm: Tensor
    patch_features: Tensor
    patch_mask: Tensor
    patch_mm: Tensor
    cell_features: Tensor
    cell_mask: Tensor
    cell_xy: Tensor
    cell_count: Tensor
    extra_features: Tensor
    extra_mask: Tensor

    def present(self, scale: str) -> Tensor:
        """Which items of one of the four scales are there: (B, n) bool; cells count once per patch."""
        mask: Tensor = getattr(self, f"{'patch' if scale == 'cell' else scale}_mask")
        return mask[:, None] if scale == "slide" else mask

    def all_present(self, scales: Sequence[str]) -> dict[str, Tensor]:
        """The same of all scales of a model, the four first."""
        found = {scale: self.present(scale) for scale in SCALES}
        more = zip(scales[len(SCALES) :], self.extra_mask.unbind(1), strict=True)
        return found | {scale: mask[:, None] for scale, mask in more}


VISUAL_INPUTS = tuple(f.name for f in fields(VisualBatch))
"""Names of the model's visual keyword arguments."""


class HwsiVisual(PreTrainedModel):
    """CCAF and a projector for each scale."""

    config: HwsiVisualConfig
    config_class = HwsiVisualConfig
    base_model_prefix = "visual"
    main_input_name = "patch_features"
    _no_split_modules = ["Ccaf"]  # noqa: RUF012 (transformers' form)
    _supports_sdpa = True

    def __init__(self, config: HwsiVisualConfig) -> None:
        super().__init__(config)
        self.ccaf = Ccaf(config)
        dims = {**config.dims, "cell": config.ccaf_width, **config.extra}
        self.projectors = nn.ModuleDict({s: Projector(dim=dims[s], width=config.width) for s in config.scales})
        self.scale_embedding = nn.Embedding(len(config.scales), config.width)
        self.place = FourierPlace(config)
        self.post_init()

    def _init_weights(self, module: Any) -> None:
        super()._init_weights(module)
        if isinstance(module, Ccaf):  # bare parameters are not known to the default
            init.normal_(module.cls, std=0.02)
            init.normal_(module.no_cells, std=1.0)  # as large as the normalised output that it stands for

    def forward(self, visual: VisualBatch) -> dict[str, Tensor]:
        """Tokens of what is present, row after row.

        Returns:
            scale -> (n, D), n = ``visual.present(scale).sum()``, in the order of that mask's True entries. Tokens of
            further scales have no place.
        """
        dtype = self.scale_embedding.weight.dtype  # a BatchFeature may come in another; cast here, once
        patches, regions, slides = visual.patch_mask, visual.region_mask, visual.slide_mask
        cells = self.ccaf(
            visual.cell_features[patches].to(dtype),
            visual.cell_mask[patches],
            visual.cell_xy[patches].to(dtype),
            visual.cell_count[patches],
        )
        parts = {
            "slide": (visual.slide_features[slides], visual.slide_mm[slides]),
            "region": (visual.region_features[regions], visual.region_mm[regions]),
            "patch": (visual.patch_features[patches], visual.patch_mm[patches]),
            "cell": (cells, visual.patch_mm[patches]),
        }
        tokens = {scale: self._project(scale, rows.to(dtype)) + self.place(mm) for scale, (rows, mm) in parts.items()}
        extra = self.config.extra
        for i, (scale, rows) in enumerate(zip(extra, visual.extra_features.split([*extra.values()], 1), strict=True)):
            tokens[scale] = self._project(scale, rows[visual.extra_mask[:, i]].to(dtype))
        return tokens

    def _project(self, scale: str, rows: Tensor) -> Tensor:
        """(n, dim) -> (n, D), told which scale it is."""
        projected: Tensor = self.projectors[scale](rows)
        return projected + self.scale_embedding.weight[self.config.scales.index(scale)]


def check_counts(input_ids: Tensor, placeholder_ids: dict[str, int], present: dict[str, Tensor]) -> None:
    """Every row must hold as many placeholders of each scale as there are items; ValueError otherwise."""
    for scale, mask in present.items():
        tokens = (input_ids == placeholder_ids[scale]).sum(1)
        items = mask.sum(1)
        if not torch.equal(tokens, items):
            raise ValueError(
                f"placeholders of scale {scale} per row: {tokens.tolist()}, items: {items.tolist()}; "
                "make both with the same HwsiProcessor call"
            )
