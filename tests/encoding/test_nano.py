"""The embedded encoders on a slide on disk: killed, resumed, and the same bytes as without."""

import subprocess
import sys
import time
from pathlib import Path

import encoding_fakes as fakes
import numpy as np
import pytest
import tifffile
import torch

from hwsi.encoders import registry
from hwsi.encoders.summaries import summarise_cells, summarise_tissue
from hwsi.encoding import Stack, encode_slide, encode_to_file
from hwsi.errors import HwsiError, Reason
from hwsi.features import read_features
from hwsi.presets import load_preset

RUN = "import sys; from hwsi.encoding import encode_to_file; encode_to_file(sys.argv[1], sys.argv[2])"


@pytest.fixture(scope="module")
def slide(tmp_path_factory) -> Path:
    """A pyramidal TIFF with a piece of speckled tissue over the border of two regions."""
    try:
        for scale, name in load_preset("nano").encoders:
            if name and scale != "text":
                registry.get(name).build()
    except HwsiError as error:
        if error.reason is not Reason.WEIGHTS_MISSING:
            raise
        pytest.skip("the package holds no weights yet")
    return made(tmp_path_factory.mktemp("slide") / "made.tiff")


def made(path: Path) -> Path:
    pixels = np.full((1024, 3072, 3), 243, np.uint8)
    pixels[128:896, 1536:2560] = fakes.speckled(1024, 768)[0]
    with tifffile.TiffWriter(path) as file:
        for level in range(2):
            file.write(
                pixels[:: 4**level, :: 4**level], tile=(256, 256), photometric="rgb", compression="jpeg",
                subfiletype=int(level > 0), resolution=(2e4 / 4**level,) * 2, resolutionunit="CENTIMETER",
            )  # fmt: skip
    return path


def test_regions_are_made_of_patches_with_their_cells_and_the_slide_of_regions_with_their_tissue(tmp_path):
    ids = ("cell-nano", "patch-nano", "region-nano", "slide-nano")
    stack = Stack(*(registry.get(name).build(weights=None) for name in ids))
    f = encode_slide(made(tmp_path / "made.tiff"), stack=stack)
    tree = f.hierarchy
    n, side = len(tree.patches), tree.region_px // tree.patch_px
    cells = summarise_cells(f.cell["cell-nano"], tree.cells.type, tree.cells.patch, n)
    assert cells.any(1).sum() > 10
    seen = torch.from_numpy(np.concatenate([f.patch["patch-nano"], cells], 1)).view(-1, side * side, 192 + 261)
    mask = torch.from_numpy(~tree.patches.background).view(-1, side * side)
    row_col = torch.from_numpy(tree.patches.row_col.copy()).view(-1, side * side, 2)
    region = stack.region.encode(seen, mask, row_col)
    assert np.allclose(region.numpy(), f.region["region-nano"], atol=1e-4)
    regions = tree.regions
    tissue = summarise_tissue([rings[0] for rings in f.tissue], regions.tissue, regions.xy, regions.size0)
    assert tissue[:, 1].sum() == 1
    whole = stack.slide.encode(
        torch.cat([region, torch.from_numpy(tissue)], 1)[None],
        torch.ones(1, len(region), dtype=torch.bool),
        torch.from_numpy(tree.centre_mm(regions.xy, regions.size0))[None],
    )
    assert np.allclose(whole[0].numpy(), f.slide["slide-nano"], atol=1e-4)


def test_the_sums_that_a_region_carries_are_taken_out_of_its_vector_by_the_slide_encoder(slide):
    """Of the trained encoders: all else that the vector says is quiet in the directions of the sums."""
    ids = ("cell-nano", "patch-nano", "region-nano", "slide-nano")
    stack = Stack(*(registry.get(name).build() for name in ids))
    told: list[torch.Tensor] = []
    stack.region.sides.register_forward_hook(lambda module, given, made: told.append(made))
    regions = torch.from_numpy(encode_slide(slide, stack=stack).region["region-nano"])
    with torch.no_grad():
        found = stack.slide.carried(regions)
    sums = torch.cat(told)[-len(found) :]  # the first reading measures the size of a batch
    assert len(found) == 2
    assert (found - sums).abs().max() < 0.05
    # the box of the tissue: left and right are the border between the two
    assert (sums[0, -2] - 1).abs() < 1e-6
    assert (sums[1, -4] + 1).abs() < 1e-6


@pytest.mark.slow
def test_killed_runs_of_the_embedded_encoders_end_in_the_same_bytes(slide, tmp_path):
    # in processes of the same kind, since the number of threads decides the last digits
    subprocess.run([sys.executable, "-c", RUN, slide, tmp_path / "whole"], check=True)
    job, rng = tmp_path / "job", np.random.default_rng()
    for _ in range(4):
        process = subprocess.Popen([sys.executable, "-c", RUN, slide, job])
        time.sleep(rng.uniform(1.5, 6))
        process.kill()
        process.wait()
    subprocess.run([sys.executable, "-c", RUN, slide, job], check=True)
    path = job / "features" / "made.h5"
    assert path.read_bytes() == (tmp_path / "whole" / "features" / "made.h5").read_bytes()
    assert not (job / "partial").exists()


@pytest.mark.slow
def test_features_of_the_embedded_encoders_are_whole(slide, tmp_path):
    features = read_features(encode_to_file(slide, tmp_path))
    tree = features.hierarchy
    assert tree.regions.grid.tolist() == [[0, 0], [0, 1]]
    assert tree.mpp == pytest.approx(0.5)
    for scale in ("patch", "region", "slide"):
        for values in getattr(features, scale).values():
            assert np.isfinite(values).all()
            assert values.any()
    assert np.isfinite(features.cell["cell-nano"]).all()
    inside = (tree.cells.xy >= (1500, 100)).all() and (tree.cells.xy <= (2600, 930)).all()
    assert inside
    assert 200 < len(tree.cells) < 800  # 475 dark squares were drawn
    assert set(features.provenance["encoders"]) == {"cell-nano", "patch-nano", "region-nano", "slide-nano"}
    assert all(len(e["weights_sha256"]) in (0, 64) for e in features.provenance["encoders"].values())
