"""What is asked enters the drawing; the same request gives the same tables."""

import hashlib
from dataclasses import replace

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hwsi.errors import HwsiError, Reason
from hwsi.phantom.draw import draw
from hwsi.phantom.drawing import CellKind, Compartment, Drawing
from hwsi.phantom.filling import MITOSES_PER_MM2
from hwsi.phantom.geometry import Blob, Tube, along
from hwsi.phantom.spec import DIAGNOSES, Spec

ALL = [dx for group in DIAGNOSES.values() for dx in group]
IDC = "invasive ductal carcinoma"


def spec(diagnosis: str = IDC, **fields: object) -> Spec:
    return replace(Spec(seed=11, diagnosis=diagnosis, width_um=1024, height_um=1024), **fields)


def digest(drawing: Drawing) -> str:
    state = hashlib.sha256(drawing.compartments.tobytes())
    state.update(drawing.cells.tobytes())
    state.update(drawing.lesion.tobytes())
    for structure in drawing.structures:
        state.update(structure.kind.encode() + structure.outline_um.tobytes() + repr(structure.attrs).encode())
    return state.hexdigest()


def share_with_lumen(drawing: Drawing) -> float:
    size = np.bincount(drawing.extra["owner"].ravel() + 1, minlength=len(drawing.structures) + 1)[1:]
    tumour = [(s, n) for s, n in zip(drawing.structures, size, strict=True) if s.kind.startswith("tumour_")]
    return sum(n for s, n in tumour if s.attrs["lumen"]) / sum(n for _, n in tumour)


@pytest.mark.parametrize("diagnosis", ALL)
def test_every_diagnosis(diagnosis: str) -> None:
    drawing = draw(spec(diagnosis, vascular_invasion=True, necrosis=True))
    h, w = drawing.compartments.shape
    assert (h, w) == (1024, 1024)
    assert drawing.lesion.shape == (h, w)
    assert drawing.flow.shape == (h // 16, w // 16)
    cells = drawing.cells
    assert len(cells) > 1500
    column, row = cells["x_um"].astype(int), cells["y_um"].astype(int)
    assert column.min() >= 0
    assert column.max() < w
    assert row.min() >= 0
    assert row.max() < h
    assert not (drawing.compartments[row, column] == Compartment.GLASS).any()
    assert cells["structure"].max() < len(drawing.structures)
    assert (np.minimum(cells["ra_um"], cells["rb_um"]) > 0.2).all()
    malignant = spec(diagnosis).malignant
    emboli = [s for s in drawing.structures if s.kind == "vessel" and s.attrs["tumour_embolus"]]
    assert bool(emboli) == malignant
    assert (cells["kind"] == CellKind.TUMOUR).any() == (malignant or "in situ" in diagnosis)
    if not malignant:
        assert not (drawing.compartments == Compartment.NECROSIS).any() or "in situ" in diagnosis


def test_same_request_same_tables() -> None:
    assert digest(draw(spec())) == digest(draw(spec()))
    assert digest(draw(spec())) != digest(draw(spec(seed=12)))


def test_outline_knows_no_diagnosis() -> None:
    glass = [
        draw(spec(dx)).compartments == Compartment.GLASS for dx in (IDC, "benign breast tissue", "tubular adenoma")
    ]
    assert (glass[0] == glass[1]).all()
    assert (glass[0] == glass[2]).all()


def test_artefacts_leave_the_drawing_alone() -> None:
    assert digest(draw(spec())) == digest(draw(spec(artefacts=("pen", "blur"))))


@pytest.mark.parametrize(("score", "low", "high"), [(1, 0.78, 1.0), (2, 0.12, 0.72), (3, 0.0, 0.09)])
@pytest.mark.parametrize("diagnosis", [IDC, "lung adenocarcinoma"])
def test_tubules(score: int, low: float, high: float, diagnosis: str) -> None:
    shares = [share_with_lumen(draw(spec(diagnosis, tubules=score, seed=seed))) for seed in range(4)]
    assert low < np.median(shares) + 1e-9
    assert np.median(shares) < high


@pytest.mark.parametrize("score", [1, 2, 3])
@pytest.mark.parametrize("diagnosis", [IDC, "ductal carcinoma in situ", "tubular adenoma", "lymph node metastasis"])
def test_mitotic_rate_lies_in_the_band(score: int, diagnosis: str) -> None:
    drawing = draw(spec(diagnosis, mitoses=score, width_um=1536, height_um=1536))
    cells = drawing.cells
    inside = drawing.lesion[cells["y_um"].astype(int), cells["x_um"].astype(int)]
    figures = np.unique(cells["figure"][(cells["figure"] > 0) & cells["neoplastic"] & inside])
    rate = len(figures) / (drawing.lesion.sum() / 1e6)
    low, high = MITOSES_PER_MM2[score]
    assert low - 0.8 <= rate <= high + 1.2


def test_anaphase_is_one_figure_of_two_rows() -> None:
    cells = draw(spec(mitoses=3, lesion_fraction=0.7)).cells
    per_figure = np.bincount(cells["figure"])[1:]
    assert set(per_figure) == {1, 2}
    assert (cells["kind"][cells["figure"] > 0] == CellKind.MITOSIS).all()


def test_dividing_is_not_malignant() -> None:
    cells = draw(spec("reactive lymph node")).cells
    assert ((cells["kind"] == CellKind.MITOSIS) & ~cells["neoplastic"]).any()


def test_pleomorphism_grows_and_varies() -> None:
    mean, spread = [], []
    for score in (1, 2, 3):
        cells = draw(spec(pleomorphism=score)).cells
        own = cells[(cells["kind"] == CellKind.TUMOUR) & ~cells["grazed"]]
        area = np.pi * own["ra_um"] * own["rb_um"]
        mean.append(area.mean())
        spread.append(area.std() / area.mean())
    assert mean == sorted(mean)
    assert mean[2] > 1.6 * mean[0]
    assert spread == sorted(spread)


def test_inflammation_and_its_plasma_cells() -> None:
    densities = []
    for til in (0, 1, 2):
        drawing = draw(spec(til=til, plasma=0.8))
        cells = drawing.cells
        inside = drawing.lesion[cells["y_um"].astype(int), cells["x_um"].astype(int)]
        cells = cells[inside]
        densities.append(np.isin(cells["kind"], (CellKind.LYMPHOCYTE, CellKind.PLASMA)).sum())
    assert densities[1] > 3 * densities[0]
    assert densities[2] > 1.6 * densities[1]
    kinds = cells["kind"]
    plasma = (kinds == CellKind.PLASMA).sum() / np.isin(kinds, (CellKind.PLASMA, CellKind.LYMPHOCYTE)).sum()
    assert 0.65 < plasma < 0.9


@pytest.mark.parametrize("n", [1, 2, 3, 4])
def test_fragments(n: int) -> None:
    drawing = draw(spec(fragments=n, width_um=2048, height_um=1536))
    tissue = (drawing.compartments != Compartment.GLASS).astype(np.uint8)
    assert cv2.connectedComponents(tissue, connectivity=4)[0] - 1 == n


@pytest.mark.parametrize("n", [1, 2, 3])
def test_focality(n: int) -> None:
    drawing = draw(spec(focality=n, lesion_fraction=0.3, width_um=2048, height_um=2048))
    sizes = cv2.connectedComponentsWithStats(drawing.lesion.astype(np.uint8))[2][1:, cv2.CC_STAT_AREA]
    assert (sizes > 10_000).sum() == n


def test_lesion_fraction() -> None:
    for wanted in (0.3, 0.55):
        drawing = draw(spec(lesion_fraction=wanted))
        tissue = drawing.compartments != Compartment.GLASS
        assert abs(drawing.lesion.sum() / tissue.sum() - wanted) < 0.1


def test_keratin_mucin_pattern_necrosis() -> None:
    squamous = "lung squamous cell carcinoma"
    assert (draw(spec(squamous, keratin=True)).compartments == Compartment.KERATIN).any()
    assert not (draw(spec(squamous, keratin=False)).compartments == Compartment.KERATIN).any()
    mucin = [
        (draw(spec("normal colonic mucosa", mucin=m)).compartments == Compartment.MUCIN).mean() for m in (False, True)
    ]
    assert mucin[1] > 1.4 * mucin[0]
    for pattern in ("cribriform", "solid", "comedo"):
        ducts = [s for s in draw(spec("ductal carcinoma in situ", pattern=pattern)).structures if s.kind == "dcis_duct"]
        assert ducts
        assert all(s.attrs["pattern"] == pattern and s.attrs["myoepithelium"] for s in ducts)
    necrosis = [(draw(spec(necrosis=n)).compartments == Compartment.NECROSIS).sum() for n in (False, True)]
    assert necrosis[0] == 0
    assert necrosis[1] > 5000


@pytest.mark.parametrize(
    "bad",
    [
        {"diagnosis": "gout"},
        {"width_um": 1000},
        {"height_um": 64},
        {"tubules": 4},
        {"plasma": 1.5},
        {"artefacts": ("smoke",)},
        {"pattern": "wavy"},
    ],
)
def test_refused(bad: dict[str, object]) -> None:
    with pytest.raises(HwsiError) as caught:
        draw(replace(spec(), **bad))
    assert caught.value.reason is Reason.OPTION_INVALID


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    size=st.floats(8, 120),
    stretch=st.floats(1, 2.5),
    irregularity=st.floats(0, 0.3),
    depth=st.floats(0, 6),
)
def test_depth_goes_inwards(seed: int, size: float, stretch: float, irregularity: float, depth: float) -> None:
    rng = np.random.default_rng(seed)
    blob = Blob(rng, np.array([500.0, 400.0]), size * stretch, size, 0.7, irregularity)
    border = blob.at(0).astype(np.float32)
    assert all(cv2.pointPolygonTest(border, (float(x), float(y)), False) >= 0 for x, y in blob.at(depth + 0.5))
    spine = np.stack([np.linspace(0, 300, 26), 20 * np.sin(np.linspace(0, 2, 26))], 1)
    tube = Tube(rng, spine, 35, 0.05)
    assert cv2.contourArea(tube.at(depth + 1).astype(np.float32)) < cv2.contourArea(tube.at(0).astype(np.float32))


def test_normals_point_across_the_wall() -> None:
    rng = np.random.default_rng(0)
    blob = Blob(rng, np.array([0.0, 0.0]), 60, 60, 0, 0)
    xy, normal = along(rng, blob.at(0), 6)
    radial = np.arctan2(xy[:, 1], xy[:, 0])
    assert np.abs(np.sin(normal - radial)).max() < 0.2
