"""Pictures of a few colours with words for them, and a small patch encoder that prepares its pixels."""

import json
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from hwsi.encoders.pixels import HALF, Preparation
from hwsi.encoders.registry import EncoderSpec, register
from hwsi.encoders.weights import initialise

KINDS = (("pink stroma", (230, 150, 190)), ("blue nuclei", (90, 70, 160)), ("white fat", (245, 245, 245)),
         ("red blood", (200, 30, 40)), ("brown pigment", (120, 80, 40)), ("green ink", (40, 160, 80)))  # fmt: skip

TINY = register(EncoderSpec(
    id="tiny-patch", scale="patch", dim=12, input_px=24, mpp=0.5, licence="Apache-2.0", commercial=True, gated=False,
    revision="1", weights="tiny_patch.safetensors", builder="pretrain_world:build",
))  # fmt: skip


class TinyPatch(nn.Module):
    """A plain transformer's face: prepared pixels in, all tokens out, the first one counts."""

    spec = TINY
    preparation = Preparation(side=24, colour=HALF)

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Conv2d(3, 12, 8, stride=8)
        self.drop = nn.Dropout(0.1)

    def forward(self, pixels: Tensor) -> Tensor:
        x = self.embed(pixels).flatten(2).transpose(1, 2)
        return torch.cat([self.drop(x.mean(1, keepdim=True)), x], 1)

    def encode(self, images: Tensor) -> Tensor:
        with torch.no_grad():
            return self(self.preparation(images, self.embed.weight.device))[:, 0]


def build(weights: Any) -> TinyPatch:
    return initialise(partial(TinyPatch), weights)


def write_pairs(folder: Path, name: str = "pairs", *, count: int = 24, seed: int = 0, side: int = 40) -> Path:
    """JSONL of pictures, four groups; widths differ from heights."""
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    lines = []
    for i in range(count):
        words, colour = KINDS[i % len(KINDS)]
        pixels = np.clip(np.array(colour) + rng.normal(0, 12, (side, side + 8, 3)), 0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{name}{i}.png")
        lines.append({"image": f"{name}{i}.png", "caption": words, "group": f"g{i // len(KINDS)}"})
    path = folder / f"{name}.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path
