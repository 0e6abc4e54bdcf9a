"""Damaged slides and feature files, a few of what ``benchmarks/mutated.py`` tries by the thousand."""

import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
import tifffile
from PIL import Image

from hwsi.errors import HwsiError
from hwsi.features.bridges.reading import read_bag
from hwsi.slide import find_tissue, open_slide

SCRIPTS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def mutations():
    sys.path.insert(0, str(SCRIPTS))
    try:
        import mutations
    finally:
        sys.path.remove(str(SCRIPTS))
    return mutations


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Small whole files of several containers."""
    folder = tmp_path_factory.mktemp("whole")
    rng = np.random.default_rng(0)
    image = np.clip(rng.normal((205, 120, 175), 20, (300, 400, 3)), 0, 255).astype(np.uint8)
    size = {"photometric": "rgb", "metadata": None, "resolution": (1e4, 1e4), "resolutionunit": "CENTIMETER"}
    tifffile.imwrite(folder / "tiled.tiff", image, tile=(128, 128), compression="jpeg", **size)
    tifffile.imwrite(folder / "striped.tiff", image, rowsperstrip=32, bigtiff=True, **size)
    tifffile.imwrite(folder / "a.ome.tiff", image, tile=(128, 128), photometric="rgb", ome=True)
    Image.fromarray(image).save(folder / "a.png")
    Image.fromarray(image).save(folder / "a.jpg")
    with h5py.File(folder / "clam.h5", "w") as file:
        file["features"], file["coords"] = rng.normal(size=(9, 4)), np.arange(18).reshape(9, 2) * 256
    return sorted(folder.iterdir())


def test_the_same_seed_does_the_same_damage(whole, mutations):
    for path in whole:
        data, where = path.read_bytes(), mutations.fields(path)
        for kind in mutations.KINDS:
            first, second, other = (mutations.mutate(data, kind, where, np.random.default_rng(s)) for s in (1, 1, 2))
            assert first == second or path.suffix == ".h5"  # HDF5 notes the time
            assert first != data
            assert first != other


def test_each_is_read_or_refused_with_a_reason(whole, mutations, tmp_path):
    said = set()
    for path in whole:
        data, where = path.read_bytes(), mutations.fields(path)
        for case in range(18):
            rng = np.random.default_rng(case)
            damaged = tmp_path / path.name
            damaged.write_bytes(mutations.mutate(data, mutations.KINDS[case % 3], where, rng))
            try:
                if path.suffix == ".h5":
                    read_bag(damaged)
                else:
                    with open_slide(damaged, mpp=1.0) as slide:
                        slide.check()
                        if slide.width0 * slide.height0 < 4_000_000:
                            find_tissue(slide)
                said.add("read")
            except HwsiError as error:
                said.add(error.reason.value)
    assert {"read", "slide_corrupt", "slide_unsupported", "features_corrupt"} <= said


@pytest.mark.slow
def test_the_command_line_survives_them(tmp_path):
    call = [sys.executable, str(SCRIPTS / "mutated.py"), "--cases", "60", "--seed", "5", "--real", "none"]
    done = subprocess.run([*call, "--keep", str(tmp_path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "60 damaged files" in done.stdout
    assert not list(tmp_path.iterdir())
