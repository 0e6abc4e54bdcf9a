"""Encoding a slide: what comes out belongs to the right tissue, once, and only tissue is read."""

import encoding_fakes as fakes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from shapely.geometry import Polygon, box

import hwsi.slide
from hwsi.encoding import Timings, encode_slide, encode_to_file
from hwsi.encoding import regions as pipeline
from hwsi.errors import HwsiError
from hwsi.features import read_features
from hwsi.presets import load_preset


@pytest.fixture(autouse=True)
def fake_rooms(monkeypatch):
    for name, fake in fakes.fake_slide_room().items():
        monkeypatch.setitem(vars(hwsi.slide), name, fake)


SMALL = load_preset("nano").model_copy(update={"region_px": 512})


def test_features_belong_to_their_patches(tmp_path):
    pixels, _ = fakes.speckled(1500, 1100)
    slide = fakes.FakeSlide(pixels)
    features = encode_slide(slide, preset=SMALL, stack=fakes.fake_stack(), out=tmp_path)
    tree = features.hierarchy
    assert features.slide_id == slide.slide_id
    assert features.warnings == ("made up",)
    assert len(tree.regions) == 3 * 3
    assert tree.regions.focus.tolist() == [0.5] * 9
    values = features.patch["patch-fake"]
    padded = np.full((2048, 2048, 3), 255, np.uint8)
    padded[:1100, :1500] = pixels
    for i, (x, y) in enumerate(tree.patches.xy):
        if tree.patches.background[i]:
            assert not values[i].any()
        else:
            assert values[i, :3] == pytest.approx(padded[y : y + 256, x : x + 256].mean((0, 1)), abs=1e-3)
    # regions and slide are made of their parts
    for r in range(9):
        inside = (tree.patches.region == r) & ~tree.patches.background
        region = features.region["region-fake"][r]
        assert region[:6] == pytest.approx(values[inside].mean(0), rel=1e-5)
        assert region[6] == inside.sum()
    centres = (tree.regions.xy + 256) * 0.5 / 1000
    assert features.slide["slide-fake"][7:] == pytest.approx(centres.mean(0), rel=1e-5)
    assert (tmp_path / "features" / "fake.h5").is_file()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["features"]


@settings(max_examples=12, deadline=None)
@given(
    st.integers(300, 1400), st.integers(300, 1400), st.sampled_from([0.2, 0.2527, 0.5, 0.5012, 0.77]),
    st.sampled_from([0.25, 0.5]), st.sampled_from([1.0, 1.0, 1.05]), st.integers(0, 99),
)  # fmt: skip
def test_every_cell_is_found_once_and_has_the_right_parent(width, height, mpp, cell_mpp, oblong, seed):
    pixels, centres = fakes.speckled(width, height, seed)
    slide = fakes.FakeSlide(pixels, mpp, oblong=oblong)
    preset = SMALL.model_copy(update={"min_tissue": 0.0, "min_side_um": 1.0})
    features = encode_slide(slide, preset=preset, stack=fakes.fake_stack(cell_mpp=cell_mpp))
    tree = features.hierarchy
    cells = tree.cells
    # the pixels of two regions are resampled on their own, which shifts what lies within a pixel of their border
    shift = 1.5 * max(1, 0.5 / mpp)
    side = 512 * 0.5 / mpp
    clear = (np.abs(centres - np.rint(centres / side) * side) > shift).all(axis=1)
    near = np.linalg.norm(cells.xy[:, None] - centres[None], axis=2) < shift
    assert (near[:, clear].sum(axis=0) == 1).all()  # each square is found, once
    assert (near.sum(axis=1) == 1).all()  # and nothing else
    # the parent holds the centroid, and cells are in order of their parents
    assert (np.diff(cells.patch) >= 0).all()
    offset = cells.xy - tree.patches.xy[cells.patch]
    assert (offset >= -1).all()
    assert (offset <= tree.patches.size0 + 1).all()
    for m in range(0, len(cells), 37):
        contour = Polygon(cells.contour(m))
        assert contour.centroid.distance(contour.representative_point()) < 2
        assert np.abs(np.array(contour.centroid.coords[0]) - cells.xy[m]).max() < 1


def test_only_tissue_is_read_and_encoded():
    pixels, centres = fakes.speckled(4096, 2048)
    tissue = box(2048 + 300, 300, 2048 + 700, 500)  # within one region, 3 x 1 patches
    slide = fakes.FakeSlide(pixels, tissue=tissue)
    stack = fakes.fake_stack()
    features = encode_slide(slide, stack=stack)
    tree = features.hierarchy
    assert tree.regions.xy.tolist() == [[2048, 0]]
    foreground = tree.patches.xy[~tree.patches.background]
    assert foreground.tolist() == [[2304, 256], [2560, 256]]
    assert slide.reads == [(2304 - 32, 256 - 32, (2 * 256 + 64, 256 + 64), 0.5)]
    assert stack.patch.images == 2
    inside = ((centres >= (2304, 256)) & (centres < (2816, 512))).all(axis=1)
    assert len(tree.cells) == inside.sum()


def test_pixels_are_read_once_at_the_finest_resolution_asked_for():
    pixels, _ = fakes.speckled(1024, 1024)
    slide = fakes.FakeSlide(pixels, mpp=0.25)
    stack = fakes.fake_stack(cell_mpp=0.25)
    encode_slide(slide, preset=SMALL, stack=stack)
    assert slide.reads == [(-64, -64, (1024 + 128, 1024 + 128), 0.25)]
    assert stack.cell.images == [((1152, 1152, 3), 0.25, (63.5, 63.5, 1087.5, 1087.5))]
    # a slide that has no finer pixels is not read any finer
    slide = fakes.FakeSlide(pixels, mpp=0.5)
    stack = fakes.fake_stack(cell_mpp=0.25)
    encode_slide(slide, preset=SMALL, stack=stack)
    assert {mpp for *_, mpp in slide.reads} == {0.5}
    assert stack.cell.images[0][0] == (1152, 1152, 3)


@pytest.mark.parametrize(
    ("pixels", "mpp", "tissue", "reason"),
    [
        (np.zeros((500, 500, 3), np.uint8), 1.5, None, "too_coarse"),
        (np.zeros((500, 16, 3), np.uint8), 0.5, None, "too_small"),
        (np.zeros((500, 500, 3), np.uint8), 0.5, Polygon(), "no_tissue"),
    ],
)
def test_unfit_slides_are_refused_and_leave_nothing(tmp_path, pixels, mpp, tissue, reason):
    slide = fakes.FakeSlide(pixels, mpp)
    slide.tissue = tissue or slide.tissue
    if reason == "no_tissue":
        slide.tissue = Polygon()
    with pytest.raises(HwsiError) as told:
        encode_slide(slide, stack=fakes.fake_stack(), out=tmp_path / "job")
    assert told.value.reason.value == reason
    assert not (tmp_path / "job").exists()


def test_pixels_that_are_far_from_square_are_refused():
    slide = fakes.FakeSlide(fakes.speckled(512, 512)[0], oblong=1.3)
    with pytest.raises(HwsiError, match=r"mpp_invalid.*stretched"):
        encode_slide(slide, stack=fakes.fake_stack())


def test_a_whole_file_is_not_made_again(tmp_path):
    pixels, _ = fakes.speckled(700, 600)
    slide = fakes.FakeSlide(pixels)
    path = encode_to_file(slide, tmp_path, preset=SMALL, stack=fakes.fake_stack())
    before = path.stat().st_mtime_ns, path.read_bytes()
    again = fakes.fake_stack()
    encode_to_file(slide, tmp_path, preset=SMALL, stack=again)
    assert again.patch.images == 0
    assert path.stat().st_mtime_ns == before[0]
    # made in another way: made again
    other = SMALL.model_copy(update={"min_tissue": 0.5})
    encode_to_file(slide, tmp_path, preset=other, stack=again)
    assert again.patch.images > 0
    assert path.read_bytes() != before[1]
    # damaged: made again, and equal to the first
    path.write_bytes(path.read_bytes()[:-100])
    encode_to_file(slide, tmp_path, preset=SMALL, stack=fakes.fake_stack())
    assert path.read_bytes() == before[1]


def test_another_slide_of_the_same_name_is_not_overwritten(tmp_path):
    encode_to_file(fakes.FakeSlide(fakes.speckled(700, 600)[0]), tmp_path, preset=SMALL, stack=fakes.fake_stack())
    with pytest.raises(HwsiError, match=r"features_mismatch.*another slide"):
        encode_to_file(
            fakes.FakeSlide(fakes.speckled(700, 600, seed=1)[0]), tmp_path, preset=SMALL, stack=fakes.fake_stack()
        )


def test_progress_and_timings(tmp_path):
    told = []
    timings = Timings()
    pixels, _ = fakes.speckled(1500, 600)
    encode_to_file(
        fakes.FakeSlide(pixels), tmp_path, preset=SMALL, stack=fakes.fake_stack(pause=0.02), timings=timings,
        progress=lambda stage, done, total: told.append((stage, done, total)),
    )  # fmt: skip
    assert told[:2] == [("tissue", 0, 1), ("tissue", 1, 1)]
    regions = [(done, total) for stage, done, total in told if stage == "regions"]
    assert regions == [(i, 6) for i in range(7)]
    assert told[-1][0] == "cells"
    assert told[-1][1:] == (len(read_features(tmp_path / "features" / "fake.h5").hierarchy.cells), None)
    assert {"cells", "patch", "read", "region", "slide", "tissue", "write"} <= set(timings.seconds())
    assert 0 < timings.model_share() <= 1


def test_few_regions_are_in_memory_at_a_time(monkeypatch):
    alive = peak = 0
    read = pipeline.read_region

    class Counted:
        def __init__(self, pixels):
            nonlocal alive, peak
            self.pixels = pixels
            alive += 1
            peak = max(peak, alive)

        def __getattr__(self, name):
            return getattr(self.pixels, name)

        def __del__(self):
            nonlocal alive
            alive -= 1

    monkeypatch.setattr(pipeline, "read_region", lambda *a, **k: Counted(read(*a, **k)))
    monkeypatch.setattr(pipeline.torch, "get_num_threads", lambda: 4)
    pixels, _ = fakes.speckled(512 * 6, 512 * 3)
    encode_slide(fakes.FakeSlide(pixels), preset=SMALL, stack=fakes.fake_stack(pause=0.01))
    assert alive == 0
    assert 1 <= peak <= 5
