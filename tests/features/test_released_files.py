"""The release's ``.pt`` files: read, written, refused."""

import shutil

import h5py
import numpy as np
import pytest
import torch

from hwsi.errors import HwsiError, Reason
from hwsi.features import SlideFeatures
from hwsi.features.file import read_features, write_features
from hwsi.features.released import ENCODERS, quadruplet, read_released, write_released

NAME, R, C = "SYN-01", 3, 16
# by outline, column by column: not in reading order
XY = np.array([[0, 4096], [4096, 0], [4096, 4096]], np.int64)


@pytest.fixture(scope="module")
def stored():
    rng = np.random.default_rng(0)
    full = rng.normal(size=(R, 256, 512)).astype(np.float32)
    selected = np.stack([rng.choice(256, C, replace=False) for _ in range(R)])
    region = rng.normal(size=(R, 192)).astype(np.float32)
    cell = rng.normal(size=(R, C, 384)).astype(np.float32)
    cell[1, 3] = 0
    return {"full": full, "selected": selected, "region": region, "cell": cell}


@pytest.fixture
def folder(stored, tmp_path):
    """As the release's scripts leave it: features in one folder, cells in another."""
    root = tmp_path / "feats"
    for sub in ("region_4k", "wsi", "patches", "patches_filtered", "coords_region4096_valid"):
        (root / sub).mkdir(parents=True)
    t = torch.from_numpy
    torch.save(t(stored["region"]), root / "region_4k" / f"{NAME}.pt")
    torch.save(t(stored["region"]).mean(0), root / "wsi" / f"{NAME}.pt")
    torch.save(t(stored["full"]), root / "patches" / f"{NAME}.pt")
    selected = stored["selected"]
    chosen = np.take_along_axis(stored["full"], selected[..., None], 1)
    filtered = {"selected_features": t(chosen), "selected_indices": t(selected)}
    torch.save(filtered, root / "patches_filtered" / f"{NAME}.pt")
    with h5py.File(root / "coords_region4096_valid" / f"{NAME}.h5", "w") as file:
        file.create_dataset("coords", data=XY, compression="gzip")
    (tmp_path / "cells" / NAME).mkdir(parents=True)
    cells = {"encoded_cell_features": t(stored["cell"]), "selected_patch_cell_level_indices": t(selected),
             "region_coords_level0": t(XY), "region_has_detail_dump": torch.zeros(R, dtype=torch.bool),
             "feature_dim": 384}  # fmt: skip
    torch.save(cells, tmp_path / "cells" / NAME / "encoded_cell_features.pt")
    return root


def read(folder, **options):
    return read_released(folder, NAME, **{"mpp": 0.25, "cells": folder.parent / "cells", **options})


def test_read(folder, stored):
    features = read(folder, size0=(9000, 9000), slide_id="abc")
    tree = features.hierarchy
    assert (tree.width0, tree.height0, tree.mpp, features.slide_id) == (9000, 9000, 0.25, "abc")
    order = [1, 0, 2]  # reading order
    assert np.array_equal(tree.regions.xy, XY[order])
    assert tree.regions.padded.tolist() == [False, False, False]
    assert np.array_equal(features.region[ENCODERS["region"]], stored["region"][order])
    np.testing.assert_allclose(features.slide[ENCODERS["slide"]], stored["region"].mean(0), rtol=1e-5)
    assert np.array_equal(features.patch[ENCODERS["patch"]].reshape(R, 256, 512), stored["full"][order])
    assert not tree.patches.background.any()
    # patch 17 of a region is in its second row and column
    assert tree.patches.row_col[17].tolist() == [1, 1]
    assert (tree.patches.xy[17] - tree.regions.xy[0]).tolist() == [256, 256]
    parts = quadruplet(features)
    assert np.array_equal(parts.cell, stored["cell"][order])
    chosen = np.take_along_axis(stored["full"], stored["selected"][..., None], 1)
    assert np.array_equal(parts.patch, chosen[order])
    assert np.array_equal(parts.region, stored["region"][order])


def test_without_the_full_grid(folder, stored):
    shutil.rmtree(folder / "patches")
    features = read(folder)
    tree = features.hierarchy
    assert (~tree.patches.background).sum() == R * C
    assert not features.patch[ENCODERS["patch"]][tree.patches.background].any()
    assert np.array_equal(quadruplet(features).cell, stored["cell"][[1, 0, 2]])


def test_without_cells(folder):
    features = read(folder, cells=None)
    assert set(features.patch) == {ENCODERS["patch"]}
    with pytest.raises(HwsiError) as error:
        quadruplet(features)
    assert error.value.reason is Reason.FEATURES_MISMATCH
    assert ENCODERS["cell"] in str(error.value)


def test_written_and_read_again(folder, tmp_path):
    features = read(folder)
    write_released(features, tmp_path / "out", cells=tmp_path / "out" / "cells")
    again = read_released(tmp_path / "out", NAME, mpp=0.25, cells=tmp_path / "out" / "cells")
    for scale in ("slide", "region", "patch"):
        for encoder, values in getattr(features, scale).items():
            assert np.array_equal(values, getattr(again, scale)[encoder])
    assert again.provenance == features.provenance
    assert np.array_equal(again.hierarchy.regions.xy, features.hierarchy.regions.xy)
    stored = torch.load(tmp_path / "out" / "cells" / NAME / "encoded_cell_features.pt", weights_only=True)
    assert {key: getattr(v, "dtype", v) for key, v in stored.items()} == {
        "encoded_cell_features": torch.float32, "selected_patch_cell_level_indices": torch.int64,
        "region_coords_level0": torch.int64, "region_has_detail_dump": torch.bool, "feature_dim": 384,
    }  # fmt: skip
    patches = torch.load(tmp_path / "out" / "patches" / f"{NAME}.pt", weights_only=True)
    assert patches.shape == (R, 256, 512)


def test_through_our_own_feature_file(folder, tmp_path):
    features = read(folder)
    write_features(tmp_path / "a.h5", features)
    again = read_features(tmp_path / "a.h5")
    a, b = quadruplet(features), quadruplet(again)
    assert all(np.array_equal(getattr(a, name), getattr(b, name)) for name in ("slide", "region", "patch", "cell"))


def test_features_that_name_no_choice_make_their_own(folder):
    features = read(folder)
    free = SlideFeatures(**{**features.__dict__, "provenance": {}})
    parts = quadruplet(free, keep=5)
    assert parts.patch.shape == (R, 5, 512)
    assert np.unique(parts.patch.reshape(-1, 512), axis=0).shape[0] == R * 5


@pytest.mark.parametrize("sub", ["region_4k", "wsi", "patches_filtered", "coords_region4096_valid"])
def test_a_missing_or_damaged_file_is_named(folder, sub):
    (file,) = (folder / sub).iterdir()
    file.write_bytes(b"not that")
    with pytest.raises(HwsiError) as error:
        read(folder)
    assert error.value.reason is Reason.FEATURES_CORRUPT
    assert str(file) in str(error.value)
    file.unlink()
    with pytest.raises(HwsiError) as error:
        read(folder)
    assert error.value.reason is Reason.FEATURES_MISSING


class Evil:
    def __reduce__(self):
        return (print, ("run",))


def test_a_pickle_with_code_is_refused_and_not_run(folder, capfd):
    torch.save(Evil(), folder / "wsi" / f"{NAME}.pt")
    with pytest.raises(HwsiError, match="holds code") as error:
        read(folder)
    assert "\n" not in str(error.value)
    assert capfd.readouterr().out == ""


@pytest.mark.parametrize(
    ("sub", "change", "told"),
    [
        ("region_4k", lambda x: x[:2], "regions"),
        ("region_4k", lambda x: x[:0], "regions"),
        ("patches", lambda x: x[:, :100], "patches"),
        ("wsi", lambda x: x[:5], "wsi"),
        ("patches_filtered", lambda x: {**x, "selected_indices": x["selected_indices"] + 250}, "selected_indices"),
        ("patches_filtered", lambda x: {"selected_features": x["selected_features"]}, "selected_indices"),
    ],
)
def test_files_that_do_not_fit_together(folder, sub, change, told):
    file = folder / sub / f"{NAME}.pt"
    torch.save(change(torch.load(file, weights_only=True)), file)
    with pytest.raises(HwsiError, match=told) as error:
        read(folder)
    assert error.value.reason is Reason.FEATURES_MISMATCH


def test_cells_of_other_patches_are_refused(folder):
    file = folder.parent / "cells" / NAME / "encoded_cell_features.pt"
    stored = torch.load(file, weights_only=True)
    stored["selected_patch_cell_level_indices"] = stored["selected_patch_cell_level_indices"].flip(0)
    torch.save(stored, file)
    with pytest.raises(HwsiError, match="differ"):
        read(folder)


def test_what_the_layout_cannot_hold(folder, tmp_path):
    features = read(folder)
    bare = SlideFeatures(**{**features.__dict__, "region": {}})
    with pytest.raises(HwsiError, match="features_mismatch"):
        write_released(bare, tmp_path / "out")
    assert not (tmp_path / "out").exists()
