"""``hwsi convert``, ``hwsi import-features``, and questions over what they wrote."""

import json
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from cli_slides import MPP

import hwsi.presets
from hwsi.features import read_features
from hwsi.inference.session import IMPORTED
from hwsi.inference.studied import RESEARCH
from hwsi.model import load, save_released

# regions of a slide of 1400 x 1400 pixels
NAME, XY, SIDE0 = "made", np.array([[0, 0], [300, 0]], np.int64), 1024


@pytest.fixture(scope="module")
def theirs(tiny_release, tmp_path_factory):
    folder = tmp_path_factory.mktemp("release") / "theirs"
    save_released(*tiny_release, folder)
    return folder


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Features of a slide and its cells, in the release's layout, in two folders as its scripts leave them."""
    root = tmp_path_factory.mktemp("feats")
    rng = np.random.default_rng(0)
    for sub in ("region_4k", "wsi", "patches_filtered", "coords_region4096_valid", "metadata"):
        (root / sub).mkdir()
    region = torch.from_numpy(rng.normal(size=(2, 192)).astype(np.float32))
    selected = torch.from_numpy(np.stack([rng.choice(256, 16, replace=False) for _ in range(2)]))
    kept, cells = (torch.from_numpy(rng.normal(size=(2, 16, d)).astype(np.float32)) for d in (512, 384))
    torch.save(region, root / "region_4k" / f"{NAME}.pt")
    torch.save(region.mean(0), root / "wsi" / f"{NAME}.pt")
    torch.save({"selected_features": kept, "selected_indices": selected}, root / "patches_filtered" / f"{NAME}.pt")
    with h5py.File(root / "coords_region4096_valid" / f"{NAME}.h5", "w") as file:
        file.create_dataset("coords", data=XY)
    (root / "metadata" / f"{NAME}.json").write_text(json.dumps({"region_size0": SIDE0}))
    (root / "cells" / NAME).mkdir(parents=True)
    stored = {"encoded_cell_features": cells, "selected_patch_cell_level_indices": selected,
              "region_coords_level0": torch.from_numpy(XY)}  # fmt: skip
    torch.save(stored, root / "cells" / NAME / "encoded_cell_features.pt")
    return root


@pytest.fixture
def preset(theirs, tmp_path):
    """The preset of the release with a small model in its place."""
    text = (Path(hwsi.presets.__file__).parent / "released.yaml").read_text()
    file = tmp_path / "mine.yaml"
    file.write_text(text.replace("language_model: Bastech/MLLM-HWSI", f"language_model: {theirs}"))
    return file


@pytest.fixture
def named(slide, tmp_path):
    """The slide under the name that its features have."""
    path = tmp_path / f"{NAME}.tiff"
    path.symlink_to(slide)
    return path


def test_convert_there_and_back(run, theirs, tmp_path):
    status, out, err = run("convert", theirs, tmp_path / "ours")
    assert (status, err) == (0, "")
    assert len(out.splitlines()) == 1
    assert f"{tmp_path / 'ours'} holds" in out
    assert "in our layout" in out
    status, out, _ = run("convert", tmp_path / "ours", tmp_path / "back")
    assert status == 0
    assert "in the release's layout" in out
    a, b = (load(folder)[0].state_dict() for folder in (theirs, tmp_path / "back"))
    assert a.keys() == b.keys()
    assert all(torch.equal(a[key], b[key]) for key in a)
    status, _, err = run("convert", theirs, tmp_path / "ours")
    assert status == 2
    assert "[output_unwritable]" in err


def test_convert_tells_of_a_projector_that_was_never_trained(run, tiny_release, tmp_path):
    import copy

    model = copy.deepcopy(tiny_release[0])
    with torch.no_grad():
        for module in model.model.visual.modules():
            if isinstance(module, torch.nn.LayerNorm):
                module.weight.fill_(1)
                module.bias.fill_(0)
    save_released(model, tiny_release[1], tmp_path / "born")
    status, out, err = run("convert", tmp_path / "born", tmp_path / "ours")
    assert status == 0
    assert "never trained" in err
    assert len(err.splitlines()) == len(out.splitlines()) == 1


def test_convert_refuses(run, theirs, tmp_path):
    status, _, err = run("convert", tmp_path / "nothing", tmp_path / "ours")
    assert status == 2
    assert len(err.splitlines()) == 1
    assert not (tmp_path / "ours").exists()


def imported(run, files, out, *options):
    cells = ("--cells", files / "cells")
    status, printed, err = run("import-features", files, "--name", NAME, "--out", out, *cells, *options)
    assert (status, err) == (0, "")
    path = out / "features" / f"{NAME}.h5"
    assert printed.strip() == str(path)
    return path


def test_imported_features_answer(run, files, preset, named, tmp_path):
    path = imported(run, files, tmp_path / "job", "--mpp", MPP)
    ask = ("ask", named, "What is seen?", "--features", path, "--preset", preset)
    choices = ("--choices", "tumour", "--choices", "no tumour")
    geojson = tmp_path / "evidence.geojson"
    status, out, err = run(*ask, *choices, "--json", "--geojson", geojson)
    assert (status, err) == (0, "")
    answer = json.loads(out)
    assert answer["text"] in ("tumour", "no tumour")
    assert answer["provenance"]["preset"] == "released"
    assert IMPORTED in answer["warnings"]
    assert RESEARCH in answer["warnings"]
    assert answer["evidence"]
    for piece in answer["evidence"]:
        assert piece["left_out_at"] == "encoder_input"
        assert 0 <= piece["box"][0] < piece["box"][2] <= 1400
    assert len(json.loads(geojson.read_text())["features"]) == len(answer["evidence"])
    status, out, err = run(*ask[:2], "Is there tumour?", *ask[3:], *choices)
    assert status == 0
    assert IMPORTED in err
    page = tmp_path / "report.html"
    status, out, _ = run("report", named, *ask[3:], "-o", page)
    assert status == 0
    assert "read by the model" in page.read_text()


def test_with_the_slide_the_file_is_of_it(run, files, preset, named, slide, tmp_path):
    path = imported(run, files, tmp_path / "job", "--slide", slide)
    features = read_features(path)
    assert (features.hierarchy.width0, features.hierarchy.mpp) == (1400, MPP)
    assert features.slide_id
    ask = ("What is seen?", "--features", path, "--preset", preset, "--choices", "a", "--choices", "b", "--json")
    status, out, _ = run("ask", named, *ask)
    assert status == 0
    assert IMPORTED not in json.loads(out)["warnings"]


def test_features_of_another_slide_are_refused(run, files, preset, slide, named, tmp_path):
    path = imported(run, files, tmp_path / "job", "--mpp", 0.25)
    status, _, err = run("ask", named, "What?", "--features", path, "--preset", preset)
    assert status == 2  # of other pixels
    assert "[features_mismatch]" in err
    renamed = tmp_path / "other.tiff"
    renamed.symlink_to(slide)
    path = imported(run, files, tmp_path / "job2", "--mpp", MPP)
    status, _, err = run("ask", renamed, "What?", "--features", path, "--preset", preset)
    assert status == 2
    assert "[features_mismatch]" in err


def test_import_refuses_in_one_line(run, files, tmp_path):
    job, cells = ("--out", tmp_path / "job"), ("--cells", files / "cells")
    for options, code in (
        (("--name", NAME, *cells), "mpp_missing"),
        (("--name", NAME, "--mpp", 0.5), "features_missing"),
        (("--name", NAME, "--mpp", 99, *cells), "mpp_invalid"),
        (("--name", "other", "--mpp", 0.5, *cells), "features_missing"),
        (("--name", f"../{NAME}", "--mpp", 0.5, *cells), "option_invalid"),
        (("--name", NAME, *cells, "--slide", tmp_path / "none.svs"), "slide_missing"),
    ):
        status, _, err = run("import-features", files, *job, *options)
        assert status == 2
        assert f"[{code}]" in err
        assert len(err.splitlines()) == 1
    assert not (tmp_path / "job").exists()


def test_as_released_goes_with_the_released_preset(run, slide, tmp_path):
    status, _, err = run("encode", slide, "--out", tmp_path, "--as-released")
    assert status == 2
    assert "[option_invalid]" in err
    status, _, err = run("encode", slide, "--out", tmp_path, "--as-released", "--preset", "released", "--mask", slide)
    assert status == 2
    assert "a mask" in err
    status, _, err = run("encode", slide, "--out", tmp_path, "--as-released", "--preset", "released")
    assert status == 2
    assert "[weights_missing]" in err
    assert "ccaf_dino" in err
