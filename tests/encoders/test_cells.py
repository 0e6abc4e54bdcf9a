import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hwsi import encoders
from hwsi.encoders.cell_crops import MEASURES, find_nuclei
from hwsi.encoders.nuclei import otsu, segment
from hwsi.errors import HwsiError, Reason
from hwsi.hierarchy.tree import CELL_TYPES

CHECKOUT = Path(__file__).resolve().parents[2]
NUCLEI = CHECKOUT.parent / "shared" / "data" / "nuclei"
ENCODER = encoders.get("cell-nano").build(weights=None)
PINK, PURPLE = (232, 190, 212), (95, 65, 140)


def field(centres_um: list[tuple[float, float]], radius_um: float, size_um: float, mpp: float) -> np.ndarray:
    """Discs of haematoxylin on eosin, with soft edges, centres in um from the corner of the image."""
    side = round(size_um / mpp)
    inside = np.zeros((side, side), np.float32)
    for x, y in centres_um:
        at = round((x / mpp - 0.5) * 256), round((y / mpp - 0.5) * 256)
        cv2.circle(inside, at, round(radius_um / mpp * 256), 1.0, -1, cv2.LINE_AA, 8)
    inside = cv2.GaussianBlur(inside, (0, 0), 0.25 / mpp)[..., None]
    return (inside * np.array(PURPLE) + (1 - inside) * np.array(PINK)).round().astype(np.uint8)


GRID = [(x, y) for y in (12.0, 36.0, 60.0, 84.0) for x in (14.0, 38.0, 62.0, 86.0)]


@pytest.mark.parametrize("mpp", [0.15, 0.25, 0.33, 0.5, 0.6])
def test_discs_are_found_at_any_resolution(mpp: float) -> None:
    found = find_nuclei(field(GRID, 3.0, 100.0, mpp), mpp)
    assert len(found) == len(GRID)
    distance = np.linalg.norm((found.xy[:, None] + 0.5) * mpp - np.array(GRID), axis=-1)
    assert distance.min(axis=0).max() < 0.3
    assert (np.diff(found.xy[:, 1]) > -1.0).all()  # by rows
    assert np.allclose(found.area_um2, np.pi * 9, rtol=0.2)
    outline = [cv2.contourArea(c) * mpp**2 for c in found.contours]
    assert np.allclose(outline, found.area_um2, rtol=0.1)
    assert found.measures[:, MEASURES.index("eccentricity")].max() < 0.5
    assert found.measures[:, MEASURES.index("solidity")].min() > 0.9


def test_touching_nuclei_are_split_and_a_ring_of_nuclei_stays_open() -> None:
    pairs = [(20.0, 20.0), (26.0, 20.0), (60.0, 60.0), (60.0, 66.4)]
    assert len(find_nuclei(field(pairs, 3.3, 90.0, 0.5), 0.5)) == 4
    angle = np.linspace(0, 2 * np.pi, 25)[:-1]
    ring = [(50 + 20 * np.cos(a), 50 + 20 * np.sin(a)) for a in angle]
    labels = segment(field(ring, 3.2, 100.0, 0.5))
    assert labels[100, 100] == 0
    assert 20 <= labels.max() <= 28


def test_core_takes_each_cell_once() -> None:
    image = field(GRID, 3.0, 100.0, 0.5)
    whole = ENCODER.encode(image, 0.5)
    left = ENCODER.encode(image, 0.5, core=(0, 0, 76.0, 200))
    right = ENCODER.encode(image, 0.5, core=(76.0, 0, 200, 200))
    assert len(left) + len(right) == len(whole) == 16
    both = np.concatenate([left.xy, right.xy])
    assert {tuple(p) for p in both} == {tuple(p) for p in whole.xy}
    # what is known of a cell doesn't depend on the core
    assert np.allclose(left.features[0], whole.features[0], atol=1e-5)
    cut = float(whole.xy[5, 0])
    assert len(ENCODER.encode(image, 0.5, core=(cut, 0, 200, 200))) == (whole.xy[:, 0] >= cut).sum()


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 70), st.integers(1, 70))
def test_any_image_gives_a_whole_cell_set(seed: int, h: int, w: int) -> None:
    rng = np.random.default_rng(seed)
    image = cv2.GaussianBlur(rng.integers(0, 256, (h, w, 3), dtype=np.uint8), (0, 0), 2).reshape(h, w, 3)
    cells = ENCODER.encode(image, 0.5)
    m = len(cells)
    assert cells.features.shape == (m, ENCODER.spec.dim)
    assert cells.features.dtype == cells.xy.dtype == cells.type_prob.dtype == np.float32
    assert np.isfinite(cells.features).all()
    assert len(cells.contours) == m
    assert all(3 <= len(c) <= 24 and c.dtype == np.float32 for c in cells.contours)
    assert ((cells.xy >= -0.5) & (cells.xy <= (w - 0.5, h - 0.5))).all()
    assert set(cells.type.tolist()) <= set(range(len(CELL_TYPES)))
    assert ((cells.type_prob > 0.19) & (cells.type_prob <= 1)).all()


@pytest.mark.parametrize("colour", [(255, 255, 255), (242, 240, 243), (0, 0, 0), PINK])
def test_even_images_hold_no_cells(colour: tuple[int, int, int]) -> None:
    cells = ENCODER.encode(np.full((128, 128, 3), colour, np.uint8), 0.5)
    assert len(cells) == 0
    assert cells.features.shape == (0, 64)


def test_bad_input_is_refused() -> None:
    image = np.full((64, 64, 3), 255, np.uint8)
    for mpp in (0.9, 29.0, 0.0):
        with pytest.raises(HwsiError) as e:
            ENCODER.encode(image, mpp)
        assert e.value.reason is Reason.TOO_COARSE
    for wrong in (image[..., 0], image.astype(np.float32), image[:0]):
        with pytest.raises(HwsiError) as e:
            ENCODER.encode(wrong, 0.5)
        assert e.value.reason is Reason.OPTION_INVALID


def test_a_crop_shows_its_own_nucleus() -> None:
    found = find_nuclei(field([(20.0, 20.0), (26.5, 20.0), (70.0, 70.0)], 3.0, 90.0, 0.5), 0.5)
    assert found.crops.shape == (3, 32, 32, 4)
    mask = found.crops[..., 3]
    assert (mask[:, 16, 16] == 255).all()
    assert np.allclose((mask > 0).sum((1, 2)) * 0.25, found.area_um2, rtol=0.02)
    inside = found.crops[..., 0][mask > 0].mean()
    # the lonely nucleus: all else in its crop is pale; the paired ones have a dark neighbour outside the mask
    pale = [found.crops[i, ..., 0][mask[i] == 0].min() for i in range(3)]
    assert pale[2] > pale[0]
    assert inside < 150


def test_standardisation_and_types_of_the_head() -> None:
    encoder = encoders.get("cell-nano").build(weights=None)
    measures = torch.randn(50, len(MEASURES)) * 3 + 7
    encoder.fit(measures)
    assert torch.allclose(encoder.mean, measures.mean(0))
    vectors, logits = encoder(torch.zeros(4, 32, 32, 4, dtype=torch.uint8), measures[:4])
    assert vectors.shape == (4, 64)
    probs = encoder.type_probs(logits)
    assert torch.allclose(probs.sum(1), torch.ones(4), atol=1e-5)
    only_lymphocyte = torch.full((1, 10), -50.0)
    only_lymphocyte[0, 2] = 50.0  # CellKind.LYMPHOCYTE is 3
    assert CELL_TYPES[int(encoder.type_probs(only_lymphocyte).argmax())] == "inflammatory"


def test_otsu_parts_two_heaps_and_clips_outliers() -> None:
    rng = np.random.default_rng(0)
    heaps = np.concatenate([rng.normal(0.1, 0.02, 3000), rng.normal(0.4, 0.02, 1000)]).astype(np.float32)
    assert 0.15 < otsu(heaps) < 0.35
    faint = np.concatenate([rng.normal(0.1, 0.01, 3000), rng.normal(0.2, 0.01, 500), np.full(90, 1.4)])
    assert otsu(faint.astype(np.float32)) > 0.21
    assert 0.12 < otsu(faint.astype(np.float32), clip=0.97) < 0.19


@pytest.fixture(scope="module")
def benchmark() -> ModuleType:
    spec = importlib.util.spec_from_file_location("bench_cells", CHECKOUT / "benchmarks" / "cells.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules["bench_cells"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


@pytest.mark.skipif(not NUCLEI.is_dir(), reason="the shared tiles of nuclei are not beside the checkout")
@pytest.mark.parametrize("mpp", [0.25, 0.5])
def test_real_tiles(benchmark: ModuleType, mpp: float) -> None:
    total = sum((benchmark.ours(tile, mpp) for tile in benchmark.nucls(NUCLEI)), benchmark.Score())
    assert total.true == 458
    assert total.f1 >= 0.86
    assert total.dice >= 0.83
    other = sum((benchmark.ours(tile, mpp) for tile in benchmark.dsb(NUCLEI)), benchmark.Score())
    assert other.f1 >= 0.72


def test_the_score_counts_what_it_should(benchmark: ModuleType) -> None:
    truth = np.zeros((100, 100), np.int32)
    truth[10:20, 10:20], truth[60:70, 60:70] = 4, 9
    tile = benchmark.Tile("t", np.zeros((100, 100, 3), np.uint8), truth, 0.25)
    assert benchmark.centroids(truth).tolist() == [[14.5, 14.5], [64.5, 64.5]]
    # one right, one 7 um off, one double of the first: a nucleus is matched once
    score = benchmark.compare(tile, np.array([[15.0, 15.0], [64.5, 92.5], [14.0, 16.0]]), truth == 4)
    assert (score.matched, score.found, score.true) == (1, 3, 2)
    assert score.f1 == pytest.approx(2 / 5)
    assert score.dice == pytest.approx(2 / 3)
