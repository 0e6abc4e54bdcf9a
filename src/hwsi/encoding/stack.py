"""The encoders that read a slide, loaded and told apart from all others."""

from dataclasses import dataclass, field
from typing import Any

from hwsi.encoders import registry
from hwsi.encoders.base import CellEncoder, PatchEncoder, RegionEncoder, SlideEncoder
from hwsi.errors import HwsiError, Reason
from hwsi.presets import Preset


@dataclass(frozen=True)
class Stack:
    """One encoder for each scale.

    Attributes:
        cell, patch, region, slide: the encoders, on ``device``.
        weights_sha256: encoder id -> digest of its weights; none for what has no weights file.
        device: where they compute.
    """

    cell: CellEncoder
    patch: PatchEncoder
    region: RegionEncoder
    slide: SlideEncoder
    weights_sha256: dict[str, str] = field(default_factory=dict)
    device: str = "cpu"

    def identity(self) -> dict[str, dict[str, Any]]:
        """Encoder id -> what tells it apart: scale, revision, digest of the weights, width, licence."""
        return {
            spec.id: {
                "scale": spec.scale,
                "revision": spec.revision,
                "weights_sha256": self.weights_sha256.get(spec.id, ""),
                "dim": spec.dim,
                "licence": spec.licence,
            }
            for spec in (self.cell.spec, self.patch.spec, self.region.spec, self.slide.spec)
        }

    def check(self, preset: Preset) -> None:
        """Refuse a preset whose pixels the patch encoder does not see (HwsiError OPTION_INVALID)."""
        spec = self.patch.spec
        if spec.input_px not in (None, preset.patch_px) or spec.mpp not in (None, preset.read_mpp):
            raise HwsiError(
                Reason.OPTION_INVALID,
                f"preset {preset.name} reads patches of {preset.patch_px} px at {preset.read_mpp} um/px, "
                f"but {spec.id} sees {spec.input_px} px at {spec.mpp} um/px",
                "correct the preset",
            )


def load_stack(preset: Preset, device: str = "cpu") -> Stack:
    """The encoders that a preset names, with the weights of the package.

    Raises:
        HwsiError: ENCODER_UNKNOWN, WEIGHTS_MISSING, WEIGHTS_MISMATCH, OPTION_INVALID.
    """
    ids = preset.encoders
    specs = [registry.get(name) for name in (ids.cell, ids.patch, ids.region, ids.slide)]
    for spec, scale in zip(specs, ("cell", "patch", "region", "slide"), strict=True):
        if spec.scale != scale:
            raise HwsiError(
                Reason.OPTION_INVALID,
                f"preset {preset.name} takes {spec.id} for the scale {scale}, but it encodes a {spec.scale}",
                "correct the preset",
            )
    cell, patch, region, slide = (spec.build(device) for spec in specs)
    digests = {spec.id: spec.weights_sha256() for spec in specs if spec.weights is not None}
    stack = Stack(cell, patch, region, slide, digests, device)
    stack.check(preset)
    return stack
