"""Pixels show what the table holds."""

from dataclasses import replace

import cv2
import numpy as np
import pytest

from hwsi.phantom import paint as paint_module
from hwsi.phantom.cells import CONTOUR_POINTS, contours_of, nuclei
from hwsi.phantom.develop import Look
from hwsi.phantom.draw import draw
from hwsi.phantom.drawing import Compartment, Drawing
from hwsi.phantom.nuclei import stamp
from hwsi.phantom.paint import cell_contours, paint
from hwsi.phantom.spec import Spec

SPEC = Spec(seed=5, diagnosis="invasive ductal carcinoma", width_um=512, height_um=640)


@pytest.fixture(scope="module")
def drawing() -> Drawing:
    return draw(SPEC)


@pytest.fixture(scope="module")
def image(drawing: Drawing) -> np.ndarray:
    return paint(drawing, SPEC)


def test_shape_and_glass(drawing: Drawing, image: np.ndarray) -> None:
    assert image.shape == (1280, 1024, 3)
    assert image.dtype == np.uint8
    glass = cv2.erode((drawing.compartments == Compartment.GLASS).astype(np.uint8), np.ones((9, 9), np.uint8)) > 0
    large = cv2.resize(glass.astype(np.uint8), image.shape[1::-1], interpolation=cv2.INTER_NEAREST) > 0
    white = np.array(Look.from_seed(SPEC.seed).white)
    assert np.abs(image[large].mean(0) - white).max() < 3


def test_same_seed_same_pixels(drawing: Drawing, image: np.ndarray) -> None:
    again = paint(draw(SPEC), SPEC)
    assert np.abs(again.astype(int) - image).max() <= 2


def test_tiles_meet(drawing: Drawing, image: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    """Painting in other tiles changes the sensor noise, nothing else: no seams."""
    look = replace(Look.from_seed(SPEC.seed), noise=0.0)
    whole = paint(drawing, SPEC, look)
    monkeypatch.setattr(paint_module, "TILE_PX", 256)
    tiled = paint(drawing, SPEC, look)
    difference = np.abs(whole.astype(int) - tiled)
    assert np.percentile(difference, 99.9) <= 3


def test_contours_are_what_was_painted() -> None:
    rng = np.random.default_rng(1)
    xy = np.array([[20.0 + 26 * i, 20.0 + 26 * j] for i in range(6) for j in range(6)])
    for kind in ("tumour3", "lymphocyte", "fibroblast", "adenoma"):
        cells = nuclei(rng, kind, xy, rng.uniform(0, np.pi, len(xy)))
        cells["texture"], cells["h"] = 0, 1.0
        cells["rim"] = cells["nucleolus"] = 0
        h, e = np.zeros((360, 360), np.float32), np.zeros((360, 360), np.float32)
        stamp(h, e, cells, (0, 0), np.zeros((1024, 1024), np.float32))
        contours = contours_of(cells)
        assert contours.shape == (len(xy), CONTOUR_POINTS, 2)
        fine = np.zeros((8 * h.shape[0], 8 * h.shape[1]), np.uint8)
        for contour in contours:
            cv2.fillPoly(fine, [np.round((contour * 16 - 0.5) * 16).astype(np.int32)], 1, shift=4)
        mask = fine.reshape(h.shape[0], 8, h.shape[1], 8).mean((1, 3)) > 0.5
        painted = h > 0.5
        overlap = (painted & mask).sum() / (painted | mask).sum()
        assert overlap > 0.92, kind


def test_nuclei_are_dark(drawing: Drawing, image: np.ndarray) -> None:
    mask = np.zeros(image.shape[:2], np.uint8)
    contours = cell_contours(drawing)
    assert contours.shape == (len(drawing.cells), 20, 2)
    assert contours.dtype == np.float32
    for contour in contours:
        cv2.fillPoly(mask, [np.round((contour * 2 - 0.5) * 16).astype(np.int32)], 1, shift=4)
    tissue = cv2.resize((drawing.compartments != Compartment.GLASS).astype(np.uint8), image.shape[1::-1])
    red = image[..., 0]
    assert red[mask > 0].mean() < red[(mask == 0) & (tissue > 0)].mean() - 25


@pytest.mark.parametrize("kind", ["pen", "fold", "blur", "bubble"])
def test_artefact(drawing: Drawing, image: np.ndarray, kind: str) -> None:
    touched = paint(drawing, replace(SPEC, artefacts=(kind,)))
    assert set(drawing.artefacts) == {kind}
    mask = drawing.artefacts[kind]
    assert mask.shape == (SPEC.height_um // 8, SPEC.width_um // 8)
    assert mask.any()
    large = cv2.resize(mask.astype(np.uint8), image.shape[1::-1], interpolation=cv2.INTER_NEAREST) > 0
    change = np.abs(touched.astype(int) - image).mean(-1)
    assert change[large].mean() > 2
    far = cv2.dilate(large.astype(np.uint8), np.ones((81, 81), np.uint8)) == 0
    if far.any():
        assert change[far].mean() < 0.5
    paint(drawing, SPEC)
    assert drawing.artefacts == {}


def test_looks_differ_and_keep_the_stains_apart() -> None:
    looks = [Look.from_seed(seed) for seed in range(60)]
    assert len({look.haematoxylin for look in looks}) == 60
    for look in looks:
        h, e = np.array(look.haematoxylin), np.array(look.eosin)
        assert h @ e < 0.97
        assert h.min() > 0
        assert e.min() > 0
        assert 30 <= look.jpeg_quality <= 90
    assert max(look.haematoxylin_strength for look in looks) > 1.3
