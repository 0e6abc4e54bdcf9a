"""Regions of 2 x 2 patches from pixels to the slide, through all encoders of the release one after another."""

import pytest
import torch
from golden import golden, recipe, relative, skip

from hwsi.encoders import conch, hipt
from hwsi.encoders.slide_mean import SlideMean

pytestmark = skip
LIMIT = 1e-4
PATCH = 256


@pytest.fixture(scope="module")
def want():
    return golden("09_region_endtoend")[0]


@pytest.fixture(scope="module")
def patches(want):
    """(regions, patches row by row, 256, 256, 3) of the regions that lie inside the slide."""
    corners = [
        [(y + row * PATCH, x + col * PATCH) for row in range(2) for col in range(2)]
        for x, y in want["valid_coords"].tolist()
    ]
    return torch.stack([
        torch.stack([want["slide_u8"][y : y + PATCH, x : x + PATCH] for y, x in region]) for region in corners
    ])  # fmt: skip


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("weights")
    for name in ("05_hipt_vit256", "05_hipt_vit4k"):
        torch.save({"teacher": recipe(golden(name)[1])}, folder / f"{name}.pth")
    sidecar = golden("06_conch")[1]
    image_tower = ("visual.trunk.", "visual.attn_pool_contrast.", "visual.ln_contrast.", "visual.proj_contrast")
    keys = [k for k in sidecar["keys"] if k.startswith(image_tower)]
    torch.save(recipe(sidecar, keys=keys), folder / "conch.pth")
    return folder


@pytest.fixture(scope="module")
def regions(patches, files):
    small = hipt.build_vit256(files / "05_hipt_vit256.pth")
    large = hipt.build_vit4k(files / "05_hipt_vit4k.pth")
    vectors = small.encode(patches.flatten(0, 1)).unflatten(0, patches.shape[:2])
    places = torch.cartesian_prod(torch.arange(2), torch.arange(2)).expand(len(patches), -1, -1)
    return large.encode(vectors, torch.ones(patches.shape[:2], dtype=torch.bool), places)


def test_regions(regions, want):
    assert relative(regions, want["cls4k"]) < LIMIT


def test_slide_is_their_mean_whatever_is_padded(regions, want):
    padded = torch.cat([regions, torch.full((1, 192), torch.nan)])[None]
    mask = torch.tensor([[True, True, False]])
    assert relative(SlideMean().encode(padded, mask, torch.zeros(1, 3, 2))[0], want["wsi"]) < LIMIT


def test_patches(patches, files, want):
    vectors = conch.build(files / "conch.pth").encode(patches.flatten(0, 1))
    assert relative(vectors.unflatten(0, patches.shape[:2]), want["conch"]) < LIMIT
