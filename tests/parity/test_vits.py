"""Plain Vision Transformers against timm and transformers, with the flags of the public encoders at small size."""

from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from golden import golden, relative, skip
from safetensors.torch import save_file

from hwsi.encoders.checkpoints import load_checkpoint
from hwsi.encoders.vit_plain import HUGGING_FACE, PlainViT

pytestmark = skip

_small = partial(PlainViT, image=224, dim=96, depth=2, heads=4)
VITS = {
    "uni": partial(_small, patch=16, hidden=384, scaled=True),
    "uni2-h": partial(_small, patch=14, hidden=512, gated=True, scaled=True, registers=8, bare_prefix=True),
    "hoptimus": partial(_small, patch=14, hidden=512, gated=True, scaled=True, registers=4, bare_prefix=True),
    "virchow2": partial(_small, patch=14, hidden=512, gated=True, scaled=True, registers=4),
    "phikon": partial(_small, patch=16, hidden=384, eps=1e-12),
    "phikon-v2": partial(_small, patch=16, hidden=384, scaled=True),
}


@pytest.mark.parametrize("name", VITS)
def test_tokens_and_embedding_are_the_same(name: str, tmp_path: Path) -> None:
    tensors, sidecar = golden(f"11_vit_{name}")
    file = tmp_path / "model.safetensors"
    save_file({k.removeprefix("sd."): v for k, v in tensors.items() if k.startswith("sd.")}, file)
    vit = load_checkpoint(VITS[name], file, HUGGING_FACE if name.startswith("phikon") else None)
    for run, told in sidecar["runs"].items():
        side = int(run)
        # the seed of the pixels stands in the words "numpy RandomState(1324).standard_normal(...)"
        words = told if isinstance(told, str) else told["input"]
        seed = int(words.split("RandomState(")[1].split(")")[0])
        pixels = np.random.RandomState(seed).standard_normal((2, 3, side, side)).astype(np.float32)
        with torch.inference_mode():
            tokens = vit(torch.from_numpy(pixels))
        vector = tokens[:, 0]
        if sidecar["pooling"] == "cls+mean":
            vector = torch.cat([vector, tokens[:, vit.prefix :].mean(1)], dim=-1)
        assert relative(vector, tensors[f"embedding.{run}"]) < 1e-5
        # stored as float16
        assert relative(tokens[:, :40], tensors[f"tokens.{run}"].float()) < 6e-4


@pytest.mark.parametrize("name", ["uni2-h", "virchow2"])
def test_the_parts_that_differ_matter(name: str, tmp_path: Path) -> None:
    """Each of these mistakes would go unnoticed if the reference did not tell: shapes are the same."""
    tensors, _ = golden(f"11_vit_{name}")
    file = tmp_path / "model.safetensors"
    save_file({k.removeprefix("sd."): v for k, v in tensors.items() if k.startswith("sd.")}, file)
    vit = load_checkpoint(VITS[name], file)
    seed, side = {"uni2-h": (1381, 280), "virchow2": (1327, 224)}[name]
    pixels = torch.from_numpy(np.random.RandomState(seed).standard_normal((2, 3, side, side)).astype(np.float32))
    with torch.inference_mode():
        if name == "uni2-h":
            vit.stretch = "offset"
            assert relative(vit(pixels)[:, 0], tensors["embedding.280"]) > 1e-4
        else:
            tokens = vit(pixels)
            with_registers = torch.cat([tokens[:, 0], tokens[:, 1:].mean(1)], dim=-1)
            assert relative(with_registers, tensors["embedding.224"]) > 1e-4
