"""Slides and outputs behind URLs: listed, fetched, uploaded whole, and gone on with from what a listing shows."""

import pytest

fsspec = pytest.importorskip("fsspec")

from hwsi.encoding.cohort.manifest import find_slides, is_cohort  # noqa: E402
from hwsi.encoding.cohort.store import Store  # noqa: E402
from hwsi.errors import HwsiError  # noqa: E402


@pytest.fixture
def bucket():
    system = fsspec.filesystem("memory")
    system.store.clear()
    system.pipe_file("/bucket/a/one.svs", b"12345")
    system.pipe_file("/bucket/b/two.tiff", b"123")
    system.pipe_file("/bucket/b/notes.txt", b"1")
    yield system
    system.store.clear()


def test_a_folder_behind_a_url_is_a_cohort_with_sizes(bucket):
    found = find_slides(["memory://bucket"]).entries
    assert [(e.slide.rpartition("/")[2], e.size_bytes) for e in found] == [("one.svs", 5), ("two.tiff", 3)]
    assert [e.slide.rpartition("/")[2] for e in find_slides(["memory://bucket/b/*.tiff"]).entries] == ["two.tiff"]
    assert is_cohort("memory://bucket")
    assert is_cohort("memory://bucket/*.svs")
    assert not is_cohort("memory://bucket/a/one.svs")
    with pytest.raises(HwsiError, match=r"slide_missing.*no slide in"):
        find_slides(["memory://bucket/none"])
    with pytest.raises(HwsiError, match=r"option_invalid.*cannot be reached"):
        find_slides(["nonsense://bucket/"])


def test_what_a_folder_lists_can_be_fetched(bucket, tmp_path):
    from hwsi.encoding.cohort.local import local_copy

    entry = find_slides(["memory://bucket/a"]).entries[0]
    with local_copy(entry.slide, tmp_path) as path:
        assert path.read_bytes() == b"12345"


@pytest.mark.parametrize("kind", ["memory", "file"])
def test_files_go_there_whole_and_come_back(kind, tmp_path, bucket):
    url = "memory://out/job" if kind == "memory" else f"file://{tmp_path}/there"
    store = Store(url + "/")
    assert store.sizes("features") == {}
    source = tmp_path / "a.h5"
    source.write_bytes(b"x" * 1000)
    store.put(source, "features/a.h5")
    assert store.sizes("features") == {"a.h5": 1000}
    source.write_bytes(b"y" * 10)
    store.put(source, "features/a.h5")  # again, in place of the former
    assert store.sizes("features") == {"a.h5": 10}
    assert store.fetch("features/a.h5", tmp_path / "back" / "a.h5")
    assert (tmp_path / "back" / "a.h5").read_bytes() == b"y" * 10
    assert not store.fetch("features/b.h5", tmp_path / "b.h5")
    assert not (tmp_path / "b.h5").exists()


def test_an_upload_that_breaks_off_shows_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr("hwsi.encoding.cohort.store.time.sleep", lambda s: None)
    store = Store(f"file://{tmp_path}/there")
    source = tmp_path / "a.h5"
    source.write_bytes(b"x" * 1000)
    tries = []

    def half(self, here, there, **_):
        tries.append(there)
        (tmp_path / "there" / "features").mkdir(parents=True, exist_ok=True)
        with open(there, "wb") as file:
            file.write(b"x" * 500)
        raise ConnectionError("reset by peer")

    monkeypatch.setattr(type(store._system), "put_file", half)
    with pytest.raises(HwsiError, match=r"output_unwritable.*reset by peer"):
        store.put(source, "features/a.h5")
    assert len(tries) == 4
    assert list((tmp_path / "there" / "features").iterdir()) == []
