"""A patch encoder of your own, in thirty lines: registered, named in a preset, and written into feature files.

    python examples/own_encoder.py [SLIDE]

This one says which colours a patch has. Yours may hold any network: ``encode`` gets uint8 pixels and gives vectors.
How ``hwsi`` commands and cohorts know it, and all else that can be added, is in docs/extending.md.
"""

import sys
from pathlib import Path

import torch

from hwsi.encoders import EncoderSpec, register
from hwsi.encoding import encode_slide
from hwsi.phantom.cohort import write_phantom
from hwsi.phantom.spec import Spec
from hwsi.presets import EncoderIds, load_preset

SPEC = register(
    EncoderSpec(
        id="patch-colour", scale="patch", dim=6, input_px=256, mpp=0.5, licence="Apache-2.0", commercial=True,
        gated=False, revision="1", builder=f"{__name__}:build",
    )
)  # fmt: skip


class Colour(torch.nn.Module):
    """Mean and spread of the colours of a patch."""

    spec = SPEC

    def encode(self, images: torch.Tensor) -> torch.Tensor:
        """uint8 (B, H, W, 3) -> float32 (B, 6)."""
        pixels = images.flatten(1, 2) / 255
        return torch.cat([pixels.mean(1), pixels.std(1)], 1)


def build(weights: Path | None) -> Colour:
    """The encoder; ``weights`` is the file that was found for it, None since it has none."""
    return Colour()


def main(slide: str = "drawn.svs") -> None:
    """Encode a slide with it, and print what it says of three patches."""
    if not Path(slide).exists():
        write_phantom(slide, Spec(seed=3, diagnosis="tubular adenoma", width_um=1280, height_um=1280))
    ids = EncoderIds(cell="cell-nano", patch="patch-colour", region="region-mean", slide="slide-mean")
    preset = load_preset("nano").model_copy(update={"name": "colour", "encoders": ids})
    features = encode_slide(slide, preset=preset)
    vectors = features.patch["patch-colour"][~features.hierarchy.patches.background]
    print(f"{len(vectors)} patches with tissue, {vectors.shape[1]} numbers each")
    for vector in vectors[:3]:
        print("  mean of red, green, blue", vector[:3].round(2), "spread", vector[3:].round(2))


if __name__ == "__main__":
    main(*sys.argv[1:])
