import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from phantom_toys import Toy, tumour

from hwsi.errors import HwsiError
from hwsi.phantom.drawing import CellKind, Compartment, Structure
from hwsi.phantom.measure import PATTERNS, derive_maps, patch_sums
from hwsi.phantom.spec import Spec
from hwsi.phantom.truth import add_up, band, cited, fill_labels, grade_of, load_truth, measure

CANCER = Spec(seed=1, diagnosis="colonic adenocarcinoma", width_um=2048, height_um=1024)
BENIGN = replace(CANCER, diagnosis="normal colonic mucosa")


@pytest.mark.parametrize(("glands", "nests", "score"), [(12, 0, 1), (6, 6, 2), (0, 12, 3)])
def test_tubule_score_follows_the_drawn_area(glands, nests, score):
    toy = tumour(glands, nests)
    slide = measure(toy.drawing(), CANCER).slide
    ring, solid = (toy.comp == k for k in (Compartment.EPITHELIUM, Compartment.SOLID))
    assert slide["tubule_fraction"] == pytest.approx(ring.sum() / (ring | solid).sum(), abs=0.02)
    assert slide["tubule_score"] == score


@pytest.mark.parametrize(("radius", "score"), [(3.8, 1), (5.6, 2), (8.0, 3)])
def test_pleomorphism_is_measured_on_nuclei(radius, score):
    slide = measure(tumour(6, 6, size=radius).drawing(), CANCER).slide
    assert slide["nuclear_area_um2"] == pytest.approx(np.pi * radius**2, rel=1e-4)
    assert slide["nuclear_area_cv"] == pytest.approx(0, abs=1e-3)
    assert slide["pleomorphism_score"] == score


def test_grazed_nuclei_do_not_count_for_size():
    toy = tumour(6, 6, size=5.6)
    for k in range(200):
        toy.cell(100 + k, 100, size=1.0, grazed=True)
    assert measure(toy.drawing(), CANCER).slide["nuclear_area_um2"] == pytest.approx(np.pi * 5.6**2, rel=1e-4)


def test_a_mitotic_figure_is_counted_once_and_only_in_the_tumour():
    toy = tumour(6, 6)
    for dx in (0, 6):  # an anaphase has two rows
        toy.cell(120 + dx, 120, CellKind.MITOSIS, figure=1)
    toy.cell(300, 300, CellKind.MITOSIS, figure=2)
    toy.cell(1500, 500, CellKind.MITOSIS, figure=3, neoplastic=False)
    toy.cell(320, 320, CellKind.APOPTOTIC)
    measured = measure(toy.drawing(), CANCER)
    assert measured.slide["mitoses"] == 2
    assert measured.slide["figures"] == 3
    assert measured.patches["mitoses"].sum() == 3
    assert measured.slide["mitoses_per_mm2"] == pytest.approx(2 / (1024 * 1024 / 1e6), rel=1e-6)


def test_growth_patterns_are_told_by_geometry():
    for make, expected in (
        (lambda t: t.gland(500, 500, 60, 40), "glandular"),
        (lambda t: t.nest(500, 500, 60), "solid"),
        (lambda t: t.nest(500, 500, 60, holes=5), "cribriform"),
        (lambda t: t.box(300, 496, 700, 506, Compartment.SOLID), "single file"),
    ):
        toy = Toy()
        toy.field(0, 0, 2048, 1024)
        make(toy)
        toy.cell(500, 500)
        areas = patch_sums(toy.drawing(), derive_maps(toy.drawing()))["patterns"].sum(0)[1:]
        assert PATTERNS[1 + int(areas.argmax())] == expected
        assert areas.max() > 0.75 * areas.sum()


def test_benign_epithelium_is_no_tumour():
    toy = Toy()
    for k in range(10):
        toy.gland(150 + 150 * k, 400, neoplastic=False)
    slide = measure(toy.drawing(), BENIGN).slide
    assert not slide["neoplastic"]
    assert slide["lesion_fraction"] == 0
    for name in ("tubule_score", "pleomorphism_score", "mitosis_score", "grade", "extent", "where_tumour", "foci"):
        assert slide[name] is None


@pytest.mark.parametrize(
    ("x", "y", "where"),
    [(200, 200, "upper left"), (1700, 200, "upper right"), (200, 800, "lower left"), (1700, 800, "lower right")],
)
def test_necrosis_and_where_it_is(x, y, where):
    toy = tumour(6, 6)
    assert measure(toy.drawing(), CANCER).slide["necrosis"] is False
    toy.disc(x, y, 20, Compartment.NECROSIS)
    assert measure(toy.drawing(), CANCER).slide["necrosis"] is None  # 1,257 um2: too little to be sure
    toy.disc(x, y, 90, Compartment.NECROSIS)
    slide = measure(toy.drawing(), CANCER).slide
    assert slide["necrosis"] is True
    assert slide["where_necrosis"] == where
    assert slide["necrosis_um2"] == (toy.comp == Compartment.NECROSIS).sum()


def test_inflammation_counts_stroma_of_the_lesion_only():
    toy = tumour(3, 3)
    toy.comp[:, 1024:] = Compartment.STROMA
    rng = np.random.default_rng(0)
    for x, y in rng.uniform((0, 520), (1020, 1020), (900, 2)):
        toy.cell(x, y, CellKind.PLASMA, neoplastic=False)
    for x, y in rng.uniform((1030, 0), (2040, 1020), (3000, 2)):
        toy.cell(x, y, CellKind.LYMPHOCYTE, neoplastic=False)
    slide = measure(toy.drawing(), CANCER).slide
    assert slide["inflammatory"] == "plasma cells"
    assert slide["plasma_fraction"] == 1
    assert 700 < slide["til_per_mm2"] < 1000
    assert slide["til"] == 1


def test_vascular_invasion_needs_an_embolus_with_tumour_in_it():
    toy = tumour(6, 6)
    turn = np.linspace(0, 2 * np.pi, 20, endpoint=False)
    ring = np.stack([1500 + 30 * np.cos(turn), 500 + 30 * np.sin(turn)], 1).astype(np.float32)
    toy.structures.append(Structure("vessel", ring, {"tumour_embolus": True}))
    assert measure(toy.drawing(), CANCER).slide["vascular_invasion"] is False
    for k in range(5):
        toy.cell(1490 + 4 * k, 500)
    measured = measure(toy.drawing(), CANCER)
    assert measured.slide["vascular_invasion"] is True
    assert [r.attrs["vascular_invasion"] for r in measured.regions] == [False, True]


@pytest.mark.parametrize(("gap", "expected"), [(200, 2), (8, None)])
def test_fragments_are_counted_where_the_gap_is_plain(gap, expected):
    toy = Toy(pieces=[(50, 50, 950, 950), (950 + gap, 50, 1900, 950)])
    assert measure(toy.drawing(), BENIGN).slide["fragments"] == expected


def test_foci():
    toy = Toy()
    for x0 in (100, 1400):
        toy.field(x0, 300, x0 + 420, 720)
        for k in range(9):
            toy.nest(x0 + 80 + 90 * (k % 3), 380 + 90 * (k // 3))
    slide = measure(toy.drawing(), CANCER).slide
    assert (slide["foci"], slide["focality"]) == (2, "several foci")


def test_mucin_pools_are_not_goblets():
    toy = Toy()
    for k in range(60):
        x, y = 60 + 30 * k, 500
        toy.box(x, y, x + 26, y + 40, Compartment.EPITHELIUM)
        toy.disc(x + 13, y + 12, 6, Compartment.MUCIN)
        toy.cell(x + 13, y + 30, CellKind.EPITHELIUM, neoplastic=False)
    slide = measure(toy.drawing(), BENIGN).slide
    assert slide["mucin"] is False
    goblets, lining = ((toy.comp == k).sum() for k in (Compartment.MUCIN, Compartment.EPITHELIUM))
    assert slide["goblet_fraction"] == pytest.approx(goblets / (goblets + lining), abs=0.01)
    toy.disc(1000, 250, 60, Compartment.MUCIN)
    assert measure(toy.drawing(), BENIGN).slide["mucin"] is True


def test_scales_agree_because_sums_add_up():
    toy = tumour(7, 4)
    drawing = toy.drawing()
    measured = measure(drawing, CANCER)
    sums = patch_sums(drawing, derive_maps(drawing))
    whole = add_up(sums, np.arange(len(sums["tissue"])))
    assert whole["tissue"] == (toy.comp > 0).sum()
    assert whole["compartments"].sum() == toy.comp.size
    assert whole["counts"].sum() == len(drawing.cells)
    assert sum(r.attrs["tissue_um2"] for r in measured.regions) == measured.slide["tissue_um2"]
    assert len(measured.patches["grid"]) == 8 * 16
    assert measured.region_grid == (1, 2)


def test_a_slide_that_is_no_multiple_of_the_grid():
    toy = Toy(1200, 700)
    measured = measure(toy.drawing(), replace(BENIGN, width_um=1200, height_um=700))
    assert measured.region_grid == (1, 2)
    assert measured.regions[1].box_um == (1024, 0, 1200, 700)
    assert measured.patches["grid"].max(0).tolist() == [5, 9]


def test_artefacts_cover_tissue():
    toy = tumour(6, 6)
    mask = np.zeros((128, 256), bool)
    mask[:, :96] = True
    toy.artefacts["pen"] = mask
    measured = measure(toy.drawing(), CANCER)
    assert measured.slide["artefacts"] == ["pen"]
    assert measured.regions[0].attrs["covered_fraction"] == pytest.approx(0.75, abs=0.01)
    assert measured.regions[1].attrs["covered_fraction"] == 0


def test_the_request_is_not_copied():
    drawing = tumour(6, 6).drawing()
    other = replace(CANCER, tubules=3, pleomorphism=1, mitoses=3, til=2, necrosis=True, fragments=3, focality=3)
    assert json.dumps(measure(drawing, CANCER).slide) == json.dumps(measure(drawing, other).slide)


@given(st.floats(-5, 5), st.floats(0.01, 0.5))
def test_band_is_none_only_within_a_margin(value, margin):
    thresholds = (-1.5, 1.5)
    got = band(value, thresholds, margin)
    if min(abs(value - t) for t in thresholds) < margin:
        assert got is None
    else:
        assert got == (value > -1.5) + (value > 1.5)


def test_band_of_nan_is_none():
    assert band(float("nan"), (1.0,), 0.1) is None


def test_grades_are_nottingham_bands():
    scores = [grade_of(t, p, m) for t in (1, 2, 3) for p in (1, 2, 3) for m in (1, 2, 3)]
    assert [scores.count(g) for g in (1, 2, 3)] == [10, 13, 4]


def test_labels_are_filled_and_a_missing_one_is_said():
    text = "{R:0,1}: tumour. See {R:2,2}."
    assert cited(text) == [(0, 1), (2, 2)]
    filled = fill_labels(text, lambda row, col: "R2" if (row, col) == (0, 1) else None)
    assert filled == "R2: tumour. See a region without tissue."


def test_load_truth_refuses_what_is_no_truth(tmp_path):
    with pytest.raises(HwsiError, match="slide_missing"):
        load_truth(tmp_path / "a.svs")
    path = tmp_path / "a.truth.json"
    for text in ("", "[]", '{"schema": "other"}', '{"schema": "hwsi.phantom/1"'):
        path.write_text(text)
        with pytest.raises(HwsiError, match="slide_corrupt"):
            load_truth(tmp_path / "a.svs")
