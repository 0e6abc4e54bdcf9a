"""The feature file: what was written comes back, equal bytes, and no damage goes unseen."""

import hashlib
import json
import subprocess
import sys
from dataclasses import fields, replace
from pathlib import Path

import h5py
import numpy as np
import pytest
from features_made_up import make_features
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hwsi.errors import HwsiError, Reason
from hwsi.features import check_features, load_features, read_features, write_features
from hwsi.features import schema as layout
from hwsi.features.slide_features import CellBlock, CellSource, SlideFeatures
from hwsi.hierarchy import Cells


@pytest.fixture
def features() -> SlideFeatures:
    return make_features()


def same(a, b) -> bool:
    if isinstance(a, np.ndarray):
        return a.dtype == b.dtype and np.array_equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, tuple):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    if hasattr(a, "__dataclass_fields__"):
        return all(same(getattr(a, f.name), getattr(b, f.name)) for f in fields(a))
    return a == b


@pytest.mark.parametrize("cells", [0, 1, 3000])
def test_what_was_written_comes_back(tmp_path, cells):
    features = make_features(cells=cells)
    path = tmp_path / "a" / "slide.h5"
    write_features(path, features)
    assert same(read_features(path), features)
    assert same(load_features(str(path), slide_id=features.slide_id), features)
    assert [p.name for p in path.parent.iterdir()] == ["slide.h5"]


def test_equal_features_give_equal_bytes(tmp_path):
    paths = [tmp_path / f"{i}.h5" for i in range(3)]
    for path in paths[:2]:
        write_features(path, make_features(cells=3000))
    write_features(paths[2], read_features(paths[0]))
    digests = {hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}
    assert len(digests) == 1
    write_features(paths[1], make_features(seed=1, cells=3000))
    assert hashlib.sha256(paths[1].read_bytes()).hexdigest() not in digests


class Pieces(CellSource):
    """The cells of some features in pieces of given sizes."""

    def __init__(self, features: SlideFeatures, cuts: list[int]) -> None:
        self.features, self.all = features, features.hierarchy.cells
        self.cuts = [0, *sorted(min(c, len(self.all)) for c in cuts), len(self.all)]
        self.cells, self.vertices = len(self.all), len(self.all.contour_xy)
        self.dims = {"cell-nano": 7}

    def blocks(self):
        c = self.all
        for a, b in zip(self.cuts[:-1], self.cuts[1:], strict=True):
            ptr = c.contour_ptr[a : b + 1]
            yield CellBlock(
                Cells(xy=c.xy[a:b], patch=c.patch[a:b], contour_ptr=ptr - ptr[0],
                      contour_xy=c.contour_xy[ptr[0] : ptr[-1]], type=c.type[a:b],
                      type_prob=c.type_prob[a:b]),
                {"cell-nano": self.features.cell["cell-nano"][a:b]},
            )  # fmt: skip


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cuts=st.lists(st.integers(0, 3000), max_size=6))
def test_bytes_do_not_depend_on_the_pieces_that_cells_come_in(tmp_path, cuts):
    features = make_features(cells=3000)
    write_features(tmp_path / "whole.h5", features)
    bare = replace(features, hierarchy=features.hierarchy.with_cells(Cells.none()), cell={})
    write_features(tmp_path / "pieces.h5", bare, cells=Pieces(features, cuts))
    assert (tmp_path / "pieces.h5").read_bytes() == (tmp_path / "whole.h5").read_bytes()


def test_file_describes_itself(tmp_path, features):
    write_features(tmp_path / "a.h5", features)
    attributes = check_features(tmp_path / "a.h5")
    assert attributes["slide_id"] == features.slide_id
    with h5py.File(tmp_path / "a.h5") as file:
        assert sorted(file) == ["cell", "patch", "region", "slide", "tissue"]
        table = file["patch/features/patch-nano"]
        assert dict(table.attrs) == {
            "encoder": "patch-nano", "revision": "1", "weights_sha256": "ab", "dtype": "float32",
        }  # fmt: skip
        assert table.shape[0] == file["patch/coords"].shape[0] == file["patch/region"].shape[0]
        assert file["cell/features/cell-nano"].dtype == np.float16
        assert json.loads(file.attrs["cell_types"])[0] == "neoplastic"
        tables = []
        file.visititems(lambda name, item: tables.append(name) if isinstance(item, h5py.Dataset) else None)
    # each table stands in the docstring of the layout and in the page for readers of other languages
    page = (Path(__file__).resolve().parents[2] / "docs" / "artifacts.md").read_text()
    for name in tables:
        _scale, _, column = name.partition("/")
        if column.startswith("features/"):
            continue
        assert f"/{name}`" in page, name
        assert column in layout.__doc__, name
    for name in layout.root_attributes(features):
        assert f"`{name}`" in page, name


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(where=st.floats(0, 1, exclude_max=True), flip=st.integers(1, 255))
def test_no_altered_byte_goes_unseen(tmp_path, where, flip):
    path = tmp_path / "a.h5"
    features = make_features(cells=40)
    write_features(path, features)
    data = bytearray(path.read_bytes())
    data[int(where * len(data))] ^= flip
    path.write_bytes(data)
    try:
        read = read_features(path)
    except HwsiError as error:
        reason = error.reason
    else:  # an unused byte: what was read is what was written
        assert same(read, features)
        return
    assert reason in (Reason.FEATURES_CORRUPT, Reason.FEATURES_MISMATCH)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(kept=st.floats(0, 1, exclude_max=True))
def test_a_file_cut_short_is_refused(tmp_path, kept):
    path = tmp_path / "a.h5"
    write_features(path, make_features(cells=40))
    data = path.read_bytes()
    path.write_bytes(data[: int(kept * len(data))])
    for read in (read_features, check_features):
        with pytest.raises(HwsiError) as told:
            read(path)
        assert told.value.reason is Reason.FEATURES_CORRUPT


def test_wrong_files_are_refused(tmp_path, features):
    with pytest.raises(HwsiError, match=r"features_missing.*encode"):
        read_features(tmp_path / "none.h5")
    path = tmp_path / "a.h5"
    path.write_text("no HDF5 at all")
    with pytest.raises(HwsiError, match="features_corrupt"):
        read_features(path)
    with h5py.File(path, "w") as file:
        file["coords"] = np.zeros((3, 2))
    with pytest.raises(HwsiError, match=r"features_corrupt.*no feature file"):
        read_features(path)
    write_features(path, features)
    with pytest.raises(HwsiError, match=r"features_mismatch.*another slide"):
        read_features(path, slide_id="0123")


@pytest.mark.parametrize("change", ["value", "attribute", "table attribute", "extra", "missing"])
def test_a_file_altered_through_hdf5_is_refused(tmp_path, features, change):
    path = tmp_path / "a.h5"
    write_features(path, features)
    with h5py.File(path, "r+") as file:
        match change:
            case "value":
                file["region/features/region-nano"][0, 0] += 1
            case "attribute":
                file.attrs["mpp"] = 0.25
            case "table attribute":
                file["region/features/region-nano"].attrs["revision"] = "7"
            case "extra":
                file["region/more"] = np.zeros(3)
            case "missing":
                del file["slide/coords"]
    with pytest.raises(HwsiError, match="features_corrupt"):
        read_features(path)


def test_a_newer_file_says_so(tmp_path, features):
    path = tmp_path / "a.h5"
    write_features(path, features)
    with h5py.File(path, "r+") as file:
        file.attrs["schema_version"] = 99
    with pytest.raises(HwsiError, match=r"newer version.*update hwsi"):
        read_features(path)


def test_no_room_leaves_the_old_file_and_nothing_else(tmp_path):
    """The limit on a file's size stands for a full disk: the system refuses the write the same way."""
    path = tmp_path / "a.h5"
    write_features(path, make_features(cells=5))
    before = path.read_bytes()
    code = (
        "import resource, signal, sys\n"
        f"sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
        "from features_made_up import make_features\n"
        "from hwsi.features import write_features\n"
        "from hwsi.errors import HwsiError\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "features = make_features(cells=20000)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))\n"
        "try:\n"
        f"    write_features({str(path)!r}, features)\n"
        "except HwsiError as error:\n"
        "    print(error.reason.value)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "disk_full", done.stderr
    assert done.stderr == ""
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["a.h5"]


def test_a_folder_that_cannot_be_written_says_so(tmp_path, features):
    (tmp_path / "file").write_text("")
    with pytest.raises(HwsiError, match="output_unwritable"):
        write_features(tmp_path / "file" / "a.h5", features)


def test_rows_that_do_not_fit_the_tree_are_refused(features):
    with pytest.raises(ValueError, match="rows of the tree"):
        replace(features, cell={"cell-nano": np.zeros((3, 7), np.float32)})
    with pytest.raises(ValueError, match="not one vector"):
        replace(features, slide={"slide-nano": np.zeros((3, 7), np.float32)})


@pytest.mark.parametrize("name", ["a\nb", "漢 ü �", "\x1b[2J"])
def test_any_name_that_a_file_may_have(tmp_path, features, name):
    write_features(tmp_path / "a.h5", replace(features, slide_name=name))
    assert read_features(tmp_path / "a.h5").slide_name == name


def test_a_file_that_may_not_be_read_is_not_called_damaged(tmp_path, features, monkeypatch):
    path = tmp_path / "a.h5"
    write_features(path, features)
    monkeypatch.setattr(Path, "open", lambda self, mode="r": (_ for _ in ()).throw(PermissionError(13, "denied")))
    with pytest.raises(HwsiError, match=r"features_missing.*denied.*permissions"):
        read_features(path)
