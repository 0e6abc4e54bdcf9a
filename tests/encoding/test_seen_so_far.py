"""A slide that is still being encoded: what its journal says, beside the one who writes it."""

from dataclasses import dataclass

import encoding_fakes as fakes
import numpy as np
import pytest
from shapely.geometry import box

import hwsi.slide
from hwsi.encoding import encode_to_file
from hwsi.encoding.encode import find_tree
from hwsi.encoding.journal import Journal
from hwsi.features import read_features
from hwsi.inference.key_regions import restrict
from hwsi.inference.seen import read_seen
from hwsi.presets import load_preset

SMALL = load_preset("nano").model_copy(update={"region_px": 512})
REGIONS = 6


@dataclass(frozen=True)
class Outlined:
    polygons: list


class Stop(Exception):
    pass


@pytest.fixture(autouse=True)
def fake_rooms(monkeypatch):
    for name, fake in fakes.fake_slide_room().items():
        monkeypatch.setitem(vars(hwsi.slide), name, fake)


@pytest.fixture
def slide():
    return fakes.FakeSlide(fakes.speckled(512 * 3, 512 * 2)[0])


def _stopped_after(regions, slide, job, monkeypatch):
    """An encoding that ends when so many regions are done; the journal stays."""
    put, done = Journal.put, []

    def put_and_count(self, region, *rest):
        put(self, region, *rest)
        done.append(region)
        if len(done) == regions:
            raise Stop

    with monkeypatch.context() as patch:
        patch.setattr(Journal, "put", put_and_count)
        with pytest.raises(Stop):
            encode_to_file(slide, job, preset=SMALL, stack=fakes.fake_stack())


def _seen(slide, job):
    _, tree = find_tree(slide, SMALL, None)
    whole = Outlined([box(0, 0, slide.width0, slide.height0)])
    return read_seen(slide, job, (whole, tree), preset=SMALL, stack=fakes.fake_stack())


def test_what_was_seen_is_that_part_of_the_whole_and_nothing_else(slide, tmp_path, monkeypatch):
    _stopped_after(4, slide, tmp_path / "job", monkeypatch)
    seen = _seen(slide, tmp_path / "job")
    assert (seen.done, seen.total, seen.share) == (4, REGIONS, 4 / REGIONS)
    assert "67 % of the tissue (4 of 6 regions)" in seen.words
    whole = read_features(encode_to_file(slide, tmp_path / "other", preset=SMALL, stack=fakes.fake_stack()))
    part = restrict(whole, seen.regions)
    assert seen.regions.tolist() == [0, 1, 2, 3]
    for scale in ("patch", "region", "cell"):
        for encoder, rows in getattr(part, scale).items():
            np.testing.assert_allclose(getattr(seen.features, scale)[encoder], rows, rtol=2e-3, err_msg=encoder)
    ours, theirs = seen.features.hierarchy, part.hierarchy
    np.testing.assert_array_equal(ours.regions.xy, theirs.regions.xy)
    np.testing.assert_array_equal(ours.cells.patch, theirs.cells.patch)
    np.testing.assert_array_equal(ours.cells.contour_ptr, theirs.cells.contour_ptr)
    np.testing.assert_allclose(ours.cells.contour_xy, theirs.cells.contour_xy, atol=0.51)
    # the slide's vector is made of these regions alone
    assert not np.allclose(seen.features.slide["slide-fake"], whole.slide["slide-fake"])
    rings = [ring for piece in seen.features.tissue for ring in piece]
    read = box(0, 0, 1536, 512).union(box(0, 512, 512, 1024)).buffer(1)
    assert all(read.covers(box(*ring.min(0), *ring.min(0) + 1)) for ring in rings)


def test_regions_out_of_order_and_a_damaged_one(slide, tmp_path, monkeypatch):
    job = tmp_path / "job"
    _stopped_after(5, slide, job, monkeypatch)
    folder = job / "partial" / "fake"
    (folder / "000001.npz").unlink()
    damaged = folder / "000003.npz"
    damaged.write_bytes(damaged.read_bytes()[:-200])
    seen = _seen(slide, job)
    assert seen.regions.tolist() == [0, 2, 4]
    cells = seen.features.hierarchy.cells
    patches = seen.features.hierarchy.patches
    corner = patches.xy[cells.patch]
    assert ((cells.xy >= corner) & (cells.xy < corner + patches.size0)).all()
    assert damaged.is_file()  # whoever only reads removes nothing


def test_nothing_is_seen_of_what_nobody_began_ended_or_encodes_in_another_way(slide, tmp_path, monkeypatch):
    job = tmp_path / "job"
    assert _seen(slide, job) is None
    _stopped_after(2, slide, job, monkeypatch)
    _, tree = find_tree(slide, SMALL, None)
    other = SMALL.model_copy(update={"cell_halo_um": 20})
    found = (Outlined([]), tree)
    assert read_seen(slide, job, found, preset=other, stack=fakes.fake_stack()) is None
    encode_to_file(slide, job, preset=SMALL, stack=fakes.fake_stack())
    assert _seen(slide, job) is None
