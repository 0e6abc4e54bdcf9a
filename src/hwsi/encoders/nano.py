"""The five encoders of the embedded preset: trained from scratch on phantom slides, weights in the package.

- They know synthetic tissue only; finding nuclei is the exception, it uses no weights.
- ``revision`` counts trainings: raise it whenever a weights file changes.
"""

from functools import partial

from hwsi.encoders.registry import EncoderSpec, register

REGION_SIDE = 8
"""Patches along the side of a region of the preset."""
REGION_MM = 1.024
"""Side of a region of the preset, on the slide: 2048 px of 0.5 um."""

_nano = partial(
    EncoderSpec,
    licence="Apache-2.0",
    commercial=True,
    gated=False,
    revision="3",
    source="hwsi, trained from scratch on phantom slides",
)

PATCH = register(_nano(
    id="patch-nano", scale="patch", dim=192, input_px=256, mpp=0.5,
    builder="hwsi.encoders.patch_nano:build", weights="patch.safetensors",
))  # fmt: skip
REGION = register(_nano(
    id="region-nano", scale="region", dim=192, input_px=None, mpp=None,
    builder="hwsi.encoders.region_nano:build", weights="region.safetensors", with_cells=True,
))  # fmt: skip
SLIDE = register(_nano(
    id="slide-nano", scale="slide", dim=192, input_px=None, mpp=None,
    builder="hwsi.encoders.slide_nano:build", weights="slide.safetensors", with_tissue=True,
))  # fmt: skip
CELL = register(_nano(
    id="cell-nano", scale="cell", dim=64, input_px=32, mpp=0.5,
    builder="hwsi.encoders.cell_nano:build", weights="cell.safetensors",
))  # fmt: skip
TEXT = register(_nano(
    id="text-nano", scale="text", dim=192, input_px=None, mpp=None,
    builder="hwsi.encoders.text_nano:build", weights="text.safetensors",
))  # fmt: skip
