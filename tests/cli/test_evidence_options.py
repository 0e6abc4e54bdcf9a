"""``hwsi ask``: how evidence is found, and the files that it goes to."""

import json

import h5py
import pytest
import tifffile

QUESTION = "Is there necrosis?"
CHOICES = ("--choices", "yes", "--choices", "no")


@pytest.mark.usefixtures("nano")
def test_evidence_goes_to_a_heatmap_and_to_anndata(run, slide, tmp_path):
    heat, out = tmp_path / "heat.ome.tiff", tmp_path / "h5ad"
    status, said, err = run(
        "ask", slide, QUESTION, *CHOICES, "--mpp", "0.5", "--out", tmp_path / "job", "--json", "--evidence", "cheap",
        "--heatmap", heat, "--h5ad", out,
    )  # fmt: skip
    assert status == 0, err
    answer = json.loads(said)
    assert (answer["found_by"], answer["passes"]) == ("cheap", 24)
    with tifffile.TiffFile(heat) as file:
        image = file.series[0].asarray()
    best = max((e["score"] for e in answer["evidence"]), default=0.0)
    assert image.max() <= best + 1e-5
    # a patch whose cell token carries the answer may have no cell: then no row of that table has its score
    for scale in {e["scale"] for e in answer["evidence"]} - {"cell"}:
        with h5py.File(next(out.glob(f"*.{scale}.h5ad"))) as file:
            column = file["obs/evidence"][:]
        top = max(e["score"] for e in answer["evidence"] if e["scale"] == scale)
        assert column.max() == pytest.approx(top, abs=1e-4)


@pytest.mark.parametrize("options", [("--evidence", "magic"), ("--risk", "0.1")])
@pytest.mark.usefixtures("nano")
def test_what_cannot_be_had_is_one_line(run, slide, tmp_path, options):
    status, _, err = run("ask", slide, QUESTION, "--mpp", "0.5", "--out", tmp_path / "job", *options)
    assert status == 2
    assert "[option_invalid]" in err
    assert "Traceback" not in err
