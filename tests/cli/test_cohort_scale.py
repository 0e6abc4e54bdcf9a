"""``hwsi encode`` with slides and outputs behind URLs, with patches of another tool, and ``hwsi plan``."""

import json
import shutil

import numpy as np
import pytest

from hwsi.features import read_features


@pytest.mark.usefixtures("nano")
def test_a_job_goes_on_from_what_its_store_holds(run, slide, tmp_path, monkeypatch):
    """The slide by URL, its features to another; then the local folder is lost, and nothing is computed again."""
    pytest.importorskip("fsspec")
    (tmp_path / "in").mkdir()
    shutil.copy(slide, tmp_path / "in" / "made.tiff")
    words = ["encode", f"file://{tmp_path}/in", "--store", f"file://{tmp_path}/there", "--workers", 0, "--out"]
    status, out, err = run(*words, tmp_path / "job")
    assert status == 0, err
    assert out.strip() == f"file://{tmp_path}/there/features/made.h5"
    made = tmp_path / "there" / "features" / "made.h5"
    stamp = made.stat().st_mtime_ns
    assert not list((tmp_path / "job").rglob("*.h5"))
    assert run(*words, tmp_path / "job")[0] == 0  # from the table alone
    assert made.stat().st_mtime_ns == stamp

    def never(*args, **kwargs):
        raise AssertionError("it is encoded already")

    monkeypatch.setattr("hwsi.encoding.encode.encode_regions", never)
    shutil.rmtree(tmp_path / "job")
    before = made.read_bytes()
    status, _, err = run(*words, tmp_path / "job")
    assert status == 0, err
    assert made.read_bytes() == before


@pytest.mark.usefixtures("nano")
def test_patches_of_another_tool_are_completed(run, slide, tmp_path, monkeypatch):
    """Our own vectors in TRIDENT's layout: taken back, the patch encoder is not asked, and all else is the same."""
    assert run("encode", slide, "--out", tmp_path / "job")[0] == 0
    whole = read_features(tmp_path / "job" / "features" / "made.h5")
    assert run("export", tmp_path / "job", "--to", "trident", "--out", tmp_path / "trident")[0] == 0

    def never(*args, **kwargs):
        raise AssertionError("these vectors were given")

    monkeypatch.setattr("hwsi.encoding.regions._encode_patches", never)
    status, out, err = run("encode", slide, "--out", tmp_path / "new", "--from", tmp_path / "trident")
    assert status == 0, err
    made = read_features(out.strip())
    assert made.provenance["given"]["layout"] == "trident"
    assert any("come from trident" in warning for warning in made.warnings)
    assert len(made.hierarchy.cells) == len(whole.hierarchy.cells) > 0
    np.testing.assert_array_equal(made.hierarchy.patches.xy, whole.hierarchy.patches.xy)
    np.testing.assert_array_equal(made.hierarchy.patches.background, whole.hierarchy.patches.background)
    for name in ("tissue", "focus", "pen"):
        np.testing.assert_allclose(getattr(made.hierarchy.regions, name), getattr(whole.hierarchy.regions, name))
    for scale in ("patch", "region", "slide"):
        for encoder, rows in getattr(whole, scale).items():
            np.testing.assert_allclose(getattr(made, scale)[encoder], rows, rtol=1e-5, atol=1e-6)


@pytest.mark.usefixtures("nano")
def test_given_vectors_stand_beside_those_that_are_computed(run, slide, tmp_path):
    """Another encoder's vectors on a lattice of its own: patches are read at their own corners."""
    import torch

    from hwsi.features.bridges.hdf5 import created
    from hwsi.slide import open_slide

    side = 256  # at 0.5 um, the preset's; the lattice begins at (100, 60)
    xy = np.array([(100 + c * side, 60 + r * side) for r in range(4) for c in range(4)], np.int64)
    rows = np.random.default_rng(0).normal(size=(len(xy), 12)).astype(np.float32)
    folder = tmp_path / "trident" / "features_other"
    folder.mkdir(parents=True)
    with created(folder / "made.h5") as file:
        coords = file.create_dataset("coords", data=xy)
        coords.attrs.update(
            patch_size=256, patch_size_level0=256, level0_magnification=20, target_magnification=20, overlap=0,
            name="made", savetodir="", level0_width=1400, level0_height=1400,
        )  # fmt: skip
        file.create_dataset("features", data=rows).attrs["encoder"] = "other"
    status, out, err = run("encode", slide, "--out", tmp_path / "job", "--from", tmp_path / "trident")
    assert status == 0, err
    made = read_features(out.strip())
    kept = np.flatnonzero(~made.hierarchy.patches.background)
    assert sorted(map(tuple, made.hierarchy.patches.xy[kept])) == sorted(map(tuple, xy))
    order = {tuple(corner): i for i, corner in enumerate(xy.tolist())}
    given = [order[tuple(corner)] for corner in made.hierarchy.patches.xy[kept].tolist()]
    np.testing.assert_array_equal(made.patch["other"][kept], rows[given])
    from hwsi.encoding import load_stack
    from hwsi.presets import load_preset

    encoder = load_stack(load_preset("nano")).patch
    with open_slide(slide) as opened, torch.inference_mode():
        images = np.stack([opened.read(x, y, (256, 256), 0.5) for x, y in made.hierarchy.patches.xy[kept].tolist()])
        want = encoder.encode(torch.from_numpy(images)).numpy()
    np.testing.assert_allclose(made.patch["patch-nano"][kept], want, rtol=1e-4, atol=1e-5)
    assert any("off the grid" in warning for warning in made.warnings)


@pytest.mark.usefixtures("nano")
@pytest.mark.parametrize("args", [["--from", "gone"], ["--engine", "slurm"], ["--store", "nonsense://x"]])
def test_what_cannot_be_is_one_line(run, slide, tmp_path, args):
    status, out, err = run("encode", slide, "--out", tmp_path / "job", *args)
    assert (status, out) == (2, "")
    assert err.startswith("hwsi: error [option_invalid]: ")
    assert err.count("\n") == 1


RATES = {
    "schema": "hwsi.rates/1", "preset": "nano", "precision": "float32", "device": "cpu", "threads": 2, "hwsi": "0",
    "machine": "a machine", "model_share": 0.9, "tissue_s_per_mm2": 0.1, "read_patches_per_s": 100,
    "read_mb_per_s": 10, "patches_per_s": {"patch-nano": 50}, "cells_per_s": 1000, "cells_per_mm2": 5000,
    "write_mb_per_s": 10, "load_s": 2,
    "slides": [{"mm2": 4, "seconds": 8, "slide_bytes": 4_000_000, "written_bytes": 400_000} for _ in range(3)],
}  # fmt: skip


def test_a_plan_from_rates(run, tmp_path):
    file = tmp_path / "rates.json"
    file.write_text(json.dumps(RATES))
    words = ["plan", "--slides", 1000, "--rates", file, "--nodes", 4, "--workers-per-node", 5, "--tissue-mm2", 100]
    status, out, err = run(*words, "--runs", 3, "--json")
    assert (status, err) == (0, "")
    plan = json.loads(out)["plan"]
    ideal = 990 * 100 * 2 / 20 / 3600
    assert plan["ideal_hours"] == pytest.approx(ideal)
    assert ideal * 0.9 < plan["hours"]["low"] <= plan["hours"]["middle"] <= plan["hours"]["high"] < ideal * 1.6
    assert plan["gpu_hours"]["high"] == 0
    assert plan["read_bytes"]["middle"] == pytest.approx(990 * 100 * 1e6, rel=0.1)
    status, out, _ = run(*words, "--runs", 3)
    assert status == 0
    assert out.startswith("1,000 slides of 100 mm² on 20 workers; nano, 2 s/mm²")
    assert "core-hours" in out
    assert "GPU-hours" not in out


@pytest.mark.parametrize(
    ("args", "code"),
    [
        ([], "option_invalid"),
        (["--rates", "gone.json"], "data_missing"),
        (["--rates", "bad.json"], "data_invalid"),
        (["--rates", "good.json", "--preset", "paper"], "option_invalid"),
    ],
)
def test_a_plan_needs_rates_that_fit(run, tmp_path, monkeypatch, args, code):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "good.json").write_text(json.dumps(RATES))
    (tmp_path / "bad.json").write_text(json.dumps(RATES | {"slides": []}))
    status, out, err = run("plan", "--slides", 10, *args)
    assert (status, out) == (2, "")
    assert f"[{code}]" in err


@pytest.mark.usefixtures("nano")
def test_rates_are_measured_on_slides(run, slide, tmp_path):
    status, out, err = run("bench", "encode", slide, "--out", tmp_path / "rates.json")
    assert status == 0, err
    assert "patch-nano" in out
    told = json.loads((tmp_path / "rates.json").read_text())
    assert told["slides"][0]["mm2"] > 0
    assert told["slides"][0]["slide_bytes"] == slide.stat().st_size
    assert 0 < told["model_share"] <= 1
    assert run("plan", "--slides", 5, "--rates", tmp_path / "rates.json", "--runs", 2)[0] == 0
