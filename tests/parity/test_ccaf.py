"""The release's fusion of cells against the golden vectors, one patch at a time and batched under a mask."""

import numpy as np
import pytest
import torch
from golden import golden, recipe, relative, skip

from hwsi.encoders.ccaf_dino import build
from hwsi.errors import HwsiError

pytestmark = skip
LIMIT = 1e-4


@pytest.fixture(scope="module")
def vectors():
    tensors, _ = golden("08_ccaf_vits")
    tensors["K150.in"] = torch.from_numpy(np.random.RandomState(550).standard_normal((150, 384)).astype(np.float32))
    return tensors


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    """DINOv2's file also holds the way from pixels to tokens."""
    state = recipe(golden("08_ccaf_vits")[1])
    state |= {
        "pos_embed": torch.zeros(1, 1370, 384),
        "mask_token": torch.zeros(1, 384),
        "patch_embed.proj.weight": torch.zeros(384, 3, 14, 14),
        "patch_embed.proj.bias": torch.zeros(384),
    }
    path = tmp_path_factory.mktemp("ccaf") / "dinov2_vits14_pretrain.pth"
    torch.save(state, path)
    return path


@pytest.fixture(scope="module")
def fuse(file):
    return torch.no_grad()(build(file))


@pytest.mark.parametrize("k", [1, 5, 37, 150])
def test_one_patch(vectors, fuse, k):
    cells = vectors[f"K{k}.in"][None]
    assert relative(fuse(cells, torch.ones(1, k, dtype=torch.bool))[0], vectors[f"K{k}.out"]) < LIMIT


def test_a_batch_and_the_order_of_its_cells(vectors, fuse):
    cells, mask = vectors["B3K9.in"], torch.ones(3, 9, dtype=torch.bool)
    assert relative(fuse(cells, mask), vectors["B3K9.out"]) < LIMIT
    assert relative(fuse(cells.flip(1), mask), vectors["B3K9.perm_out"]) < LIMIT


def test_patches_of_unlike_numbers_of_cells_share_a_batch(vectors, fuse):
    sizes = [5, 37, 0, 1]
    cells = torch.full((len(sizes), 37, 384), torch.nan)
    mask = torch.zeros(len(sizes), 37, dtype=torch.bool)
    for row, k in enumerate(sizes):
        cells[row, :k] = vectors[f"K{k}.in"] if k else 0
        mask[row, :k] = True
    fused = fuse(cells, mask)
    for row, k in enumerate(sizes):
        if k:
            assert relative(fused[row], vectors[f"K{k}.out"]) < LIMIT
    assert not fused[2].any(), "the release writes zeros for a patch without cells"


def test_a_file_that_does_not_fit_is_refused_by_name(file, tmp_path):
    state = torch.load(file, weights_only=True)
    state["blocks.12.norm1.weight"] = state.pop("norm.weight")
    torch.save(state, tmp_path / "other.pth")
    with pytest.raises(HwsiError, match=r"other\.pth.*unexpected blocks\.12\.norm1\.weight.*missing norm\.weight"):
        build(tmp_path / "other.pth")
