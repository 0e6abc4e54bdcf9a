"""What the verbs print and write, on a small slide with random weights."""

import json
import re
from pathlib import Path

import pytest
from cli_slides import SIDE_PX

QUESTION = "What is the histologic grade?"


def test_help_names_every_verb(run):
    status, out, _ = run("--help")
    assert status == 0
    verbs = "demo info phantom encode ask report caption classify search index similar match bench"
    for verb in verbs.split():
        assert re.search(rf"^  {verb} ", out, re.MULTILINE)
    assert run("--version")[1].startswith("hwsi 0.")


def test_info_tells_the_same_in_words_and_json(run, slide):
    status, out, _ = run("info", slide, "--json")
    facts = json.loads(out)
    assert status == 0
    assert (facts["width"], facts["height"]) == (SIDE_PX, SIDE_PX)
    assert facts["mpp"] == pytest.approx(0.5, rel=1e-3)
    assert facts["mpp_source"]
    words = run("info", slide)[1]
    assert facts["slide_id"] in words
    assert "1,400 x 1,400 px" in words


def test_info_opens_a_slide_of_unknown_resolution(run, tmp_path):
    from cli_slides import tissue_pixels, write_image

    path = write_image(tmp_path / "x.tiff", tissue_pixels(side=512), mpp=None)
    status, out, _ = run("info", path, "--json")
    assert status == 0
    assert json.loads(out)["mpp"] is None
    assert json.loads(run("info", path, "--mpp", "0.25", "--json")[1])["mpp"] == 0.25
    assert json.loads(run("info", path, "--mpp", "0.25", "--tissue", "--json")[1])["tissue_mm2"] > 0


@pytest.fixture
def answer(run, nano, slide, tmp_path):
    status, out, err = run(
        "ask", slide, QUESTION, "--choices", "grade 1", "--choices", "grade 2",
        "--json", "--out", tmp_path / "job", "--geojson", tmp_path / "e.geojson",
    )  # fmt: skip
    assert status == 0, err
    return json.loads(out), tmp_path


def test_ask_prints_one_json_document(answer, slide):
    said, folder = answer
    assert said["text"] in ("grade 1", "grade 2")
    assert said["question"] == QUESTION
    assert said["choice_probs"][said["choices"].index(said["text"])] == said["confidence"]
    assert any("synthetic tissue only" in w for w in said["warnings"])
    assert said["provenance"]["features"].endswith("made.h5")
    assert Path(said["provenance"]["features"]).exists()
    assert said["evidence"]
    for e in said["evidence"]:
        x0, y0, x1, y1 = e["box"]
        assert 0 <= x0 < x1 <= SIDE_PX
        assert 0 <= y0 < y1 <= SIDE_PX
    drawn = json.loads((folder / "e.geojson").read_text())
    assert drawn["type"] == "FeatureCollection"
    assert len(drawn["features"]) == len(said["evidence"])


def test_ask_is_deterministic_and_reads_what_was_encoded(answer, run, slide):
    said, _ = answer
    again = run(
        "ask", slide, QUESTION, "--choices", "grade 1", "--choices", "grade 2", "--json",
        "--features", said["provenance"]["features"],
    )  # fmt: skip
    assert json.loads(again[1]) == said
    fresh = run("ask", slide, QUESTION, "--choices", "grade 1", "--choices", "grade 2", "--json")
    assert json.loads(fresh[1]) | {"provenance": 0} == said | {"provenance": 0}


def test_ask_in_words_streams_without_control_codes(run, nano, slide, tmp_path):
    status, out, err = run("ask", slide, QUESTION, "--out", tmp_path / "job")
    assert status == 0
    assert "\x1b" not in out + err
    assert "confidence" in out
    assert "synthetic tissue only" in err


def test_encode_writes_cells_that_open(run, nano, slide, tmp_path):
    status, out, err = run("encode", slide, "--out", tmp_path, "--cells-geojson")
    assert status == 0, err
    features, cells = (Path(line) for line in out.splitlines())
    assert features.exists()
    drawn = json.loads(cells.read_text())
    assert len(drawn["features"]) > 100
    stamp = features.stat().st_mtime_ns
    assert run("encode", slide, "--out", tmp_path)[0] == 0
    assert features.stat().st_mtime_ns == stamp


def test_report_writes_a_page(run, nano, slide, tmp_path):
    page = tmp_path / "deep" / "report.html"
    status, out, err = run("report", slide, "-o", page, "-q", QUESTION)
    assert status == 0, err
    text = page.read_text(encoding="utf-8")
    assert QUESTION in text
    assert "data:image/jpeg;base64," in text
    assert str(page) in out
    status, out, _ = run("report", slide, "-o", page, "--json")
    assert json.loads(out)["note"]


@pytest.mark.slow
def test_demo_ends_with_the_page(run, nano, tmp_path):
    status, out, err = run("demo", "-o", tmp_path)
    assert status == 0, err
    page = tmp_path / "report.html"
    assert out.rstrip().endswith(str(page))
    for scale in ("cell", "patch", "region", "slide"):
        assert re.search(rf"^ *{scale} ", out, re.MULTILINE), out
    assert "Truth:" in page.read_text(encoding="utf-8")


def test_phantom_slide_and_cohort(run, tmp_path):
    status, out, err = run(
        "phantom", "slide", tmp_path / "a.svs", "--seed", 3, "--size-um", 768, "--diagnosis", "tubular adenoma"
    )
    assert status == 0, err
    assert "tubular adenoma" in out
    truth = json.loads((tmp_path / "a.truth.json").read_text())
    assert truth["width0"] == 1536
    assert truth["diagnosis"] == "tubular adenoma"
    assert json.loads(run("info", tmp_path / "a.svs", "--json")[1])["width"] == 1536


def test_bench_lists_itself(run):
    assert "phantom" in run("bench", "list")[1]
