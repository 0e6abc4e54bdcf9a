import json
import os
import stat
from dataclasses import replace

import numpy as np
import pytest

from hwsi.errors import HwsiError
from hwsi.phantom import cohort
from hwsi.phantom.cohort import is_whole, read_manifest, write_cohort, write_phantom
from hwsi.phantom.draw import draw
from hwsi.phantom.questions import balance
from hwsi.phantom.spec import Spec
from hwsi.phantom.truth import load_truth

SPEC = Spec(seed=5, diagnosis="invasive ductal carcinoma", width_um=640, height_um=512, artefacts=("pen",))


@pytest.fixture(scope="module")
def slide(tmp_path_factory):
    path = tmp_path_factory.mktemp("phantom") / "a.svs"
    write_phantom(path, SPEC)
    return path


def test_a_slide_comes_with_all_that_the_contract_names(slide):
    openslide = pytest.importorskip("openslide")
    truth = load_truth(slide)
    with openslide.OpenSlide(slide) as opened:
        assert opened.dimensions == (truth["width0"], truth["height0"]) == (1280, 1024)
        assert float(opened.properties["openslide.mpp-x"]) == pytest.approx(truth["mpp"], rel=1e-3)
    keys = {
        "schema", "slide_id", "seed", "spec", "organ", "diagnosis", "malignant", "mpp", "width0", "height0", "patch_um",
        "region_um", "slide", "regions", "report", "report_units", "caption", "questions",
    }  # fmt: skip
    assert keys <= set(truth)
    question = {"id", "kind", "scale", "question", "choices", "answer", "answerable", "template", "pair", "regions"}
    assert all(question <= set(q) for q in truth["questions"])
    region = {"grid", "box", "tissue", "attrs", "sentence", "patches"}
    assert all(region <= set(r) for r in truth["regions"])
    assert "NaN" not in slide.with_name("a.truth.json").read_text()
    assert sorted(p.name for p in slide.parent.iterdir()) == sorted(["a.truth.json", *truth["files"]])


def test_cells_and_patches(slide):
    cells = np.load(slide.with_name("a.cells.npz"))
    drawing = draw(SPEC)
    assert cells["xy"].shape == (len(drawing.cells), 2)
    assert cells["contour"].shape == (len(drawing.cells), 20, 2)
    assert np.abs(cells["contour"].mean(1) - cells["xy"]).max() < 12
    np.testing.assert_allclose(cells["xy"][:, 0] / 2, drawing.cells["x_um"], atol=1e-3)
    assert 0 < cells["ignored"].mean() < 1
    patches = np.load(slide.with_name("a.patches.npz"))
    assert patches["grid"].tolist() == [[r, c] for r in range(4) for c in range(5)]
    assert patches["counts"].sum() == len(drawing.cells)
    assert patches["compartments"].shape == (20, 16)
    np.testing.assert_allclose(patches["compartments"].sum(1), 1, atol=1e-5)
    assert patches["phrase"].dtype.kind == "U"


def test_the_same_seed_gives_the_same_truth(slide, tmp_path):
    again = write_phantom(tmp_path / "a.svs", SPEC).record
    first = load_truth(slide)
    assert again["digest"] == first["digest"]
    assert json.loads(json.dumps(again["questions"])) == first["questions"]
    for name in ("a.patches.npz", "a.cells.npz"):
        assert (tmp_path / name).read_bytes() == slide.with_name(name).read_bytes()
    other = write_phantom(tmp_path / "b.svs", replace(SPEC, seed=6)).record
    assert other["digest"] != first["digest"]


def test_whole_means_content(slide, tmp_path):
    for file in slide.parent.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    copy = tmp_path / slide.name
    assert is_whole(copy, SPEC)
    assert not is_whole(copy, replace(SPEC, til=2))
    for name in ("a.svs", "a.patches.npz", "a.cells.npz"):
        whole = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(whole[:-1])
        assert not is_whole(copy, SPEC)
        (tmp_path / name).write_bytes(whole)
    (tmp_path / "a.truth.json").write_text("{")
    assert not is_whole(copy, SPEC)


def test_bad_names_and_places(tmp_path):
    with pytest.raises(HwsiError, match="option_invalid"):
        write_phantom(tmp_path / "a.png", SPEC)
    (tmp_path / "file").write_text("")
    with pytest.raises(HwsiError, match="output_unwritable"):
        write_phantom(tmp_path / "file" / "a.svs", SPEC)
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_a_failure_leaves_nothing_behind(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(cohort, "_write_npz", full)
    with pytest.raises(HwsiError, match="disk_full"):
        write_phantom(tmp_path / "a.svs", SPEC)
    assert list(tmp_path.iterdir()) == []


def test_a_cohort_goes_on_where_it_was(tmp_path):
    seen = []
    plans = write_cohort(tmp_path, 3, 0, split="val", sides_um=(512, 640), progress=lambda *a: seen.append(a))
    assert seen == [(0, 3), (1, 3), (2, 3), (3, 3)]
    rows = read_manifest(tmp_path)
    assert [r["slide"] for r in rows] == [p.slide_id + p.suffix for p in plans]
    assert {r["split"] for r in rows} == {"val"}
    times = {p.name: p.stat().st_mtime_ns for p in tmp_path.iterdir() if p.name != "manifest.csv"}
    damaged = tmp_path / rows[1]["slide"]
    before = damaged.read_bytes()
    damaged.write_bytes(before[: len(before) // 2])
    seen.clear()
    write_cohort(tmp_path, 3, 0, split="val", sides_um=(512, 640), progress=lambda *a: seen.append(a))
    assert seen == [(2, 3), (3, 3)]
    assert damaged.read_bytes() == before
    for name, time in times.items():
        if not name.startswith(plans[1].slide_id + "."):
            assert (tmp_path / name).stat().st_mtime_ns == time
    truths = [load_truth(tmp_path / r["slide"]) for r in rows]
    organ_of = {t["slide_id"]: t["organ"] for t in truths}
    assert isinstance(balance([q for t in truths for q in t["questions"]], organ_of), list)


def test_a_folder_without_manifest(tmp_path):
    with pytest.raises(HwsiError, match="slide_missing"):
        read_manifest(tmp_path)
    with pytest.raises(HwsiError, match="option_invalid"):
        write_cohort(tmp_path, 0, 0, split="val")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_may_not_be_written(tmp_path):
    tmp_path.chmod(stat.S_IRUSR | stat.S_IXUSR)
    with pytest.raises(HwsiError, match="output_unwritable"):
        write_cohort(tmp_path / "x", 1, 0, split="val")
