"""ViT-256 and ViT-4K against the authors' release, from checkpoints as DINO's training writes them."""

import argparse
from pathlib import Path

import pytest
import torch
from golden import golden, recipe, relative, skip
from torch import Tensor

from hwsi.encoders.hipt import Vit4K, Vit256, build_vit4k, build_vit256

pytestmark = skip


def _checkpoint(name: str, folder: Path) -> Path:
    file = folder / f"{name}.pth"
    teacher = {f"module.backbone.{k}": v for k, v in recipe(golden(name)[1]).items()}
    teacher["module.head.mlp.0.weight"] = torch.zeros(3)
    student = {"module.backbone.cls_token": torch.zeros(1)}
    torch.save({"student": student, "teacher": teacher, "epoch": 3, "args": argparse.Namespace(lr=0.1)}, file)
    return file


@pytest.fixture(scope="module")
def vit256(tmp_path_factory: pytest.TempPathFactory) -> Vit256:
    return build_vit256(_checkpoint("05_hipt_vit256", tmp_path_factory.mktemp("vit256")))


@pytest.fixture(scope="module")
def vit4k(tmp_path_factory: pytest.TempPathFactory) -> Vit4K:
    return build_vit4k(_checkpoint("05_hipt_vit4k", tmp_path_factory.mktemp("vit4k")))


def _patches(grid: Tensor) -> tuple[Tensor, Tensor]:
    """A grid (1, 384, rows, cols) as vectors (1, T, 384) and places (1, T, 2), row by row."""
    rows, cols = grid.shape[2:]
    places = torch.cartesian_prod(torch.arange(rows), torch.arange(cols))
    return grid.flatten(2).transpose(1, 2), places[None]


def test_vit256_is_the_same(vit256: Vit256) -> None:
    want, _ = golden("05_hipt_vit256")
    images = want["images_u8"]
    pixels = vit256.preparation(images, torch.device("cpu"))
    with torch.inference_mode():
        assert relative(vit256.positions(16, 16), want["vit256.pos_embed_16x16"][:, 1:]) < 1e-6
        tokens = vit256.embed(pixels)
        assert relative(tokens[:, :16], want["vit256.prepared_tokens_first16"]) < 1e-5
        assert relative(vit256.blocks[0](tokens)[:, :16], want["vit256.block0_first16"]) < 1e-5
        # 224 px are the grid that positions are stored for
        assert relative(vit256(pixels[:, :, :224, :224])[:, 0], want["vit256.cls_224crop"]) < 1e-5
    assert relative(vit256.encode(images), want["vit256.cls"]) < 1e-5


@pytest.mark.parametrize("name", ["16", "8x8", "14x14", "4x12"])
def test_vit4k_is_the_same_on_every_grid(vit4k: Vit4K, name: str) -> None:
    want, _ = golden("05_hipt_vit4k")
    patches, places = _patches(want[f"grid{name}"])
    mask = torch.ones(1, patches.shape[1], dtype=torch.bool)
    assert relative(vit4k.encode(patches, mask, places), want[f"cls.grid{name}"]) < 1e-5


def test_vit4k_knows_places_by_row_and_column(vit4k: Vit4K) -> None:
    want, _ = golden("05_hipt_vit4k")
    patches, places = _patches(want["grid16"])
    mask = torch.ones(1, 256, dtype=torch.bool)
    order = torch.randperm(256, generator=torch.Generator().manual_seed(0))
    shuffled = vit4k.encode(patches[:, order], mask, places[:, order])
    assert relative(shuffled, want["cls.grid16"]) < 1e-5
    assert relative(vit4k.encode(patches, mask, places.flip(-1)), want["cls.grid16"]) > 1e-2


def test_absent_patches_change_nothing(vit4k: Vit4K) -> None:
    want, _ = golden("05_hipt_vit4k")
    patches, places = _patches(want["grid16"])
    mask = torch.ones(1, 256, dtype=torch.bool)
    mask[0, 40:200] = False
    some = vit4k.encode(patches, mask, places)
    assert relative(some, want["cls.grid16"]) > 1e-2
    patches = patches.clone()
    patches[0, 40:200] = torch.nan
    assert torch.equal(vit4k.encode(patches, mask, places), some)
    two = vit4k.encode(patches.repeat(2, 1, 1), mask.repeat(2, 1), places.repeat(2, 1, 1))
    assert relative(two[1:], some) < 1e-5
    assert torch.isfinite(vit4k.encode(patches, torch.zeros_like(mask), places)).all()
