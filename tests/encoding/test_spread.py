"""Only patches that the filter can keep are seen by the dearer of two patch encoders."""

import encoding_fakes as fakes
import h5py
import numpy as np
import pytest
from test_two_patch_encoders import SMALL, two

import hwsi.slide
from hwsi.encoding import encode_slide, encode_to_file
from hwsi.errors import HwsiError
from hwsi.features.bridges.trident import write_trident
from hwsi.features.released import kept_rows
from hwsi.hierarchy.farthest import farthest_points
from hwsi.hierarchy.selection import described
from hwsi.model.prompt import keep_patches
from hwsi.presets import Preset

FEW = SMALL.model_copy(update={"region_px": 1024, "kept_patches": 2, "patch_spread": 3})


@pytest.fixture(autouse=True)
def fake_rooms(monkeypatch):
    for name, fake in fakes.fake_slide_room().items():
        monkeypatch.setitem(vars(hwsi.slide), name, fake)


@pytest.fixture(scope="module")
def pixels():
    return fakes.speckled(1536, 1024)[0]


def test_the_spread_is_chosen_by_the_regions_own_encoder(pixels, tmp_path):
    stack, whole = two(), two()
    found = encode_slide(fakes.FakeSlide(pixels), preset=FEW, stack=stack, out=tmp_path)
    all_ = encode_slide(fakes.FakeSlide(pixels), preset=FEW.model_copy(update={"patch_spread": None}), stack=whole)
    tree, dear, cheap = found.hierarchy, found.patch["patch-fake"], found.patch["second-fake"]
    np.testing.assert_array_equal(cheap, all_.patch["second-fake"])
    np.testing.assert_array_equal(found.region["region-fake"], all_.region["region-fake"])
    assert stack.patch.images == 6 < whole.patch.images
    for r in range(len(tree.regions)):
        rows = np.flatnonzero((tree.patches.region == r) & ~tree.patches.background)
        chosen = np.sort(rows[farthest_points(cheap[rows], 3)[0]])
        np.testing.assert_array_equal(np.flatnonzero(dear.any(1) & (tree.patches.region == r)), chosen)
        np.testing.assert_array_equal(dear[chosen], all_.patch["patch-fake"][chosen])


def test_what_was_spared_is_nowhere_taken_for_a_patch(pixels, tmp_path):
    found = encode_slide(fakes.FakeSlide(pixels), preset=FEW, stack=two(), out=tmp_path)
    tree, dear = found.hierarchy, found.patch["patch-fake"]
    seen = set(np.flatnonzero(dear.any(1)).tolist())
    assert len(seen) == 6
    assert set(keep_patches(tree, dear, 5).tolist()) <= seen
    assert set(keep_patches(tree, dear, 5, np.ones(len(dear), np.float32)).tolist()) <= seen
    assert set(kept_rows(found, dear).ravel().tolist()) - {-1} <= seen
    written = {path.parent.name: path for path in write_trident(found, tmp_path / "trident")}
    for encoder, count in (("patch-fake", 6), ("second-fake", int((~tree.patches.background).sum()))):
        with h5py.File(written[f"features_{encoder}"]) as file:
            assert file["features"].shape[0] == file["coords"].shape[0] == count


def test_a_stopped_run_and_another_spread(pixels, tmp_path):
    path = encode_to_file(fakes.FakeSlide(pixels), tmp_path, preset=FEW, stack=two())
    first = path.read_bytes()
    again = two()
    encode_to_file(fakes.FakeSlide(pixels), tmp_path, preset=FEW, stack=again)
    assert again.patch.images == 0
    more = FEW.model_copy(update={"patch_spread": 4})
    assert encode_to_file(fakes.FakeSlide(pixels), tmp_path, preset=more, stack=two()).read_bytes() != first


def test_where_it_spares_nothing_it_is_refused(tmp_path):
    with pytest.raises(HwsiError, match=r"option_invalid.*spares patch-fake nothing"):
        fakes.fake_stack().check(FEW)
    for wrong in ({"patch_spread": 1}, {"as_released": True}):
        with pytest.raises(ValueError, match="patch_spread"):
            Preset.model_validate(FEW.model_dump() | wrong)


def test_all_zeros_spare_nobody():
    background = np.array([True, False, False])
    assert described(background, np.zeros((3, 2))).tolist() == [False, True, True]
    assert described(background, np.eye(3)[[0, 0, 2]] * [[1], [0], [1]]).tolist() == [False, False, True]
