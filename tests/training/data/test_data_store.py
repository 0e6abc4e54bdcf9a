"""Slides by name, read when they are asked for, within a budget of memory."""

import pickle

import numpy as np
import pytest
from data_fakes import made_features, write_job
from torch.utils.data import DataLoader, Dataset

from hwsi.errors import HwsiError, Reason
from hwsi.features import file as feature_file
from hwsi.features import read_features
from hwsi.training.data import store as store_module
from hwsi.training.data.store import FeatureStore, Lengths, nbytes


def reason(call) -> Reason:
    with pytest.raises(HwsiError) as caught:
        call()
    return caught.value.reason


def test_lengths_are_told_without_reading_a_table(job, monkeypatch):
    def never(*args, **kwargs):
        raise AssertionError("a table was read")

    monkeypatch.setattr(store_module, "read_features", never)
    monkeypatch.setattr(feature_file.h5py.Dataset, "__getitem__", never)
    store = FeatureStore([job])
    for name, regions, patches in (("small", 1, 16), ("middle", 4, 64), ("large", 6, 96)):
        assert store.lengths(name)[:2] == (regions, patches)
    entry = store.find("large")
    assert (entry.preset, entry.slide_name, entry.widths["cell"]) == ("nano", "large", {"cell-nano": 64})
    assert isinstance(entry.lengths, Lengths)
    assert len(store) == len(store.entries) == 3


def test_features_are_those_of_the_file_without_outlines(job, store):
    read, whole = store.get("middle"), read_features(job / "features" / "middle.h5")
    assert np.array_equal(read.patch["patch-nano"], whole.patch["patch-nano"])
    assert np.array_equal(read.hierarchy.cells.xy, whole.hierarchy.cells.xy)
    assert len(whole.hierarchy.cells.contour_xy)
    assert not len(read.hierarchy.cells.contour_xy)
    assert read.hierarchy.cells.contour(3).shape == (0, 2)
    assert read.tissue == ()
    assert len(read.hierarchy.cells) == store.lengths("middle").cells


def test_a_name_is_a_stem_a_slide_s_name_or_a_fingerprint_and_nothing_shorter(tmp_path):
    name = "TCGA-21-1083-01Z-00-DX1.8288ca92"
    features = made_features(7, name="scan 7")
    store = FeatureStore([write_job(tmp_path, {name: features})])
    for known in (name, "scan 7", features.slide_id):
        assert store.find(known).path.stem == name
    for unknown in ("TCGA-21-1083", name[:23], "scan", "", name.lower(), features.slide_id[:8]):
        assert reason(lambda unknown=unknown: store.find(unknown)) is Reason.FEATURES_MISSING


def test_two_files_for_one_name_are_an_error_and_a_map_chooses(tmp_path):
    one = write_job(tmp_path / "one", {"a": made_features(1, name="a")})
    two = write_job(tmp_path / "two", {"a": made_features(2, name="a"), "b": made_features(3, name="a")})
    assert reason(lambda: FeatureStore([one, two]).find("a")) is Reason.FEATURES_MISMATCH
    assert reason(lambda: FeatureStore([two]).find("a")) is Reason.FEATURES_MISMATCH, "b says that it is a"
    assert FeatureStore([one, one / "features", one]).find("a"), "the same file twice is one file"
    table = tmp_path / "map.csv"
    table.write_text("slide,file\na,two/features/a.h5\nTCGA-1,b\ngone,c\n")
    mapped = FeatureStore([one, two], slides=table)
    assert mapped.find("a").slide_id == made_features(2).slide_id
    assert mapped.find("TCGA-1").slide_id == made_features(3).slide_id
    assert reason(lambda: mapped.find("gone")) is Reason.FEATURES_MISSING
    table.write_text("slide,file\na,b\na,c\n")
    assert reason(lambda: FeatureStore([one], slides=table)) is Reason.DATA_INVALID
    assert reason(lambda: FeatureStore([one], slides=tmp_path / "no.csv")) is Reason.DATA_MISSING


def test_a_damaged_file_stops_nobody_who_does_not_ask_for_it(tmp_path):
    job = write_job(tmp_path, {"a": made_features(1, name="a")})
    (job / "features" / "b.h5").write_bytes(b"no HDF5")
    (job / "features" / ".c.h5").write_bytes(b"left by a killed writer")
    store = FeatureStore([job])
    assert store.get("a").slide_name == "a"
    assert [path.name for path in store.damaged] == ["b.h5"]
    assert reason(lambda: store.find("b")) is Reason.FEATURES_CORRUPT
    assert reason(lambda: FeatureStore([tmp_path / "empty"])) is Reason.FEATURES_MISSING


def test_a_file_that_was_replaced_by_another_slide_s_is_noticed(tmp_path):
    job = write_job(tmp_path, {"a": made_features(1, name="a")})
    store = FeatureStore([job])
    store.find("a")
    write_job(tmp_path, {"a": made_features(2, name="a")})
    assert reason(lambda: store.get("a")) is Reason.FEATURES_MISMATCH


def test_memory_is_bounded_and_what_was_used_last_stays(job, monkeypatch):
    reads = []
    real = store_module.read_features
    monkeypatch.setattr(store_module, "read_features", lambda p, **k: reads.append(p.stem) or real(p, **k))
    store = FeatureStore([job])
    room = sum(nbytes(store.get(name)) for name in ("small", "large"))
    reads.clear()
    store = FeatureStore([job], max_bytes=room)
    for name in ("small", "large", "small", "middle", "small", "large"):
        store.get(name)
        assert store._bytes == sum(map(nbytes, store._held.values())) <= room
    assert reads == ["small", "large", "middle", "large"]
    alone = FeatureStore([job], max_bytes=1)
    assert alone.get("large") is alone.get("large"), "a slide larger than the budget is held alone"


class _Names(Dataset):
    def __init__(self, store):
        self.store = store

    def __len__(self):
        return 3

    def __getitem__(self, i):
        return float(self.store.get(("small", "middle", "large")[i]).slide["slide-nano"][0])


def test_a_store_travels_without_what_it_holds(store):
    here = [_Names(store)[i] for i in range(3)]
    sent = pickle.loads(pickle.dumps(store))
    assert not sent._held
    assert sent._bytes == 0
    assert len(store._held) == 3
    assert [_Names(sent)[i] for i in range(3)] == here


@pytest.mark.slow
def test_a_store_works_in_another_process(store):
    here = [_Names(store)[i] for i in range(3)]
    loaded = DataLoader(_Names(store), batch_size=1, num_workers=1, multiprocessing_context="spawn")
    assert [float(x) for x in loaded] == pytest.approx(here)
