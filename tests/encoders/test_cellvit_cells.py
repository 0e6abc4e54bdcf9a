"""CellViT as a cell encoder: windows, each nucleus once, types, cores, resolutions, and what it refuses.

A stand-in for the network reads drawn discs perfectly, so that what is tested is all around it.
"""

import pickle
import subprocess
import sys
from itertools import pairwise

import cv2
import numpy as np
import pytest
import torch
from scipy import ndimage

from hwsi.encoders import cell_slide_cards, hover, registry
from hwsi.encoders.base import CellEncoder
from hwsi.encoders.cell_slide_cards import CELLVIT_256
from hwsi.encoders.cellvit import CellVit, _starts, build_256, build_sam_h
from hwsi.encoders.cellvit_network import CLASSES, Maps, cellvit_256
from hwsi.errors import HwsiError, Reason
from hwsi.hierarchy.tree import CELL_TYPES

MPP = 0.25


class Drawn(CellVit):
    """Reads discs whose red is 40 x (PanNuke class - 1); tokens hold their own row and column."""

    spec = CELLVIT_256

    def __init__(self):
        super().__init__(torch.nn.Identity())
        self.seen = 0

    def maps(self, windows):
        self.seen += len(windows)
        b = len(windows)
        inside = (windows[..., 1] < 128).numpy()
        hv = np.zeros((b, 2, 256, 256), np.float32)
        for k in range(b):
            labels = ndimage.label(inside[k])[0]
            for number, (rows, cols) in enumerate(ndimage.find_objects(labels), start=1):
                mask = labels[rows, cols] == number
                y, x = (np.arange(n) - (n - 1) / 2 for n in mask.shape)
                hv[k, 0, rows, cols][mask] = np.broadcast_to(2 * x / max(len(x), 2), mask.shape)[mask]
                hv[k, 1, rows, cols][mask] = np.broadcast_to((2 * y / max(len(y), 2))[:, None], mask.shape)[mask]
        class_ = np.where(inside, np.rint(windows[..., 0].numpy() / 40).astype(int).clip(0, 4) + 1, 0)
        types = 8.0 * torch.nn.functional.one_hot(torch.from_numpy(class_), 6).permute(0, 3, 1, 2).float()
        nuclei = torch.from_numpy(np.stack([~inside, inside], 1)).float()
        place = torch.arange(16.0)
        tokens = torch.zeros(b, 384, 16, 16)
        tokens[:, 0], tokens[:, 1] = place[:, None], place[None, :]
        return Maps(torch.zeros(b, 19), nuclei, torch.from_numpy(hv), types, tokens)


def draw(size, discs):
    """RGB (height, width) with discs (x, y, radius, class from 1)."""
    image = np.full((*size, 3), 255, np.uint8)
    for x, y, radius, class_ in discs:
        cv2.circle(image, (x, y), radius, (40 * (class_ - 1), 0, 0), -1)
    return image


@pytest.fixture(scope="module")
def field():
    """Discs in all places relative to windows, none touching another."""
    rng = np.random.default_rng(0)
    discs = []
    for y in range(24, 620, 44):
        for x in range(24, 760, 44):
            radius, class_ = int(rng.integers(6, 17)), int(rng.integers(1, 6))
            discs.append((x + int(rng.integers(-3, 4)), y + int(rng.integers(-3, 4)), radius, class_))
    return draw((640, 780), discs), discs


def nearest(cells, discs):
    """Index of the cell nearest to each disc, and the distances."""
    away = np.linalg.norm(np.array([d[:2] for d in discs])[:, None] - cells.xy[None], axis=2)
    return away.argmin(1), away.min(1)


def test_it_is_a_cell_encoder():
    assert isinstance(Drawn(), CellEncoder)


def test_each_nucleus_is_found_once_whole_and_with_its_type(field):
    image, discs = field
    cells = Drawn().encode(image, MPP)
    assert len(cells) == len(discs)
    index, away = nearest(cells, discs)
    assert len(set(index.tolist())) == len(discs)
    assert away.max() < 0.6
    assert [CELL_TYPES[t] for t in cells.type[index]] == [CLASSES[d[3]] for d in discs]
    assert cells.type_prob.min() > 0.95
    area = np.array([(np.array(draw((64, 64), [(32, 32, d[2], 1)]))[..., 1] < 128).sum() for d in discs]) * MPP**2
    assert cells.area_um2[index] == pytest.approx(area, rel=0.02)
    outlined = [cv2.contourArea(c) * MPP**2 for c in cells.contours]
    assert outlined == pytest.approx(cells.area_um2, rel=0.05)


def test_cells_stand_in_reading_order(field):
    cells = Drawn().encode(field[0], MPP)
    assert (np.diff(cells.xy[:, 1].round()) >= 0).all()


def test_a_vector_is_the_mean_of_the_tokens_that_the_nucleus_touches():
    # columns 3 (48 to 63) and 4, rows 5 and 6
    cells = Drawn().encode(draw((256, 256), [(64, 96, 10, 1)]), MPP)
    assert cells.features.shape == (1, 384)
    assert cells.features[0, :2].tolist() == [5.5, 3.5]


def test_cores_side_by_side_give_each_cell_once(field):
    image, discs = field
    whole = Drawn().encode(image, MPP)
    parts = []
    for x0, x1 in ((-0.5, 300.25), (300.25, 779.5)):
        for y0, y1 in ((-0.5, 333.5), (333.5, 639.5)):
            cells = Drawn().encode(image, MPP, (x0, y0, x1, y1))
            assert ((cells.xy >= (x0, y0)) & (cells.xy < (x1, y1))).all()
            parts.append(cells.xy)
    xy = np.concatenate(parts)
    assert len(xy) == len(discs)
    assert np.abs(np.sort(xy, 0) - np.sort(whole.xy, 0)).max() < 0.5


def test_only_windows_over_the_core_are_looked_at(field):
    encoder = Drawn()
    encoder.encode(field[0], MPP, (300, 300, 400, 400))
    assert encoder.seen == 1


def test_the_image_is_brought_to_the_resolution_of_training(field):
    image, discs = field
    small = cv2.resize(image, (390, 320), interpolation=cv2.INTER_AREA)
    cells = Drawn().encode(small, 2 * MPP)
    assert len(cells) == len(discs)
    _, away = nearest(cells, [((x + 0.5) / 2 - 0.5, (y + 0.5) / 2 - 0.5) for x, y, _, _ in discs])
    assert away.max() < 0.4
    outlined = np.array([cv2.contourArea(c) for c in cells.contours]) * (2 * MPP) ** 2
    assert outlined == pytest.approx(cells.area_um2, rel=0.05)


def test_a_nucleus_larger_than_the_overlap_is_found_whole():
    # windows begin at 0, 192 and 384; this disc of 90 px is cut by the first two
    image = draw((256, 640), [(224, 128, 45, 1)])
    cells = Drawn().encode(image, MPP)
    assert len(cells) == 1
    assert cells.xy[0] == pytest.approx((224, 128), abs=0.6)
    assert cells.area_um2[0] == pytest.approx((image[..., 1] < 128).sum() * MPP**2, rel=0.02)


def test_images_smaller_than_a_window_and_without_cells():
    cells = Drawn().encode(draw((40, 90), [(50, 20, 9, 2)]), MPP)
    assert len(cells) == 1
    assert cells.xy[0] == pytest.approx((50, 20), abs=0.5)
    nothing = Drawn().encode(np.full((300, 300, 3), 255, np.uint8), MPP)
    assert (len(nothing), nothing.features.shape, nothing.xy.shape) == (0, (0, 384), (0, 2))


@pytest.mark.parametrize(("size", "low", "high"), [(1000, 0, 1000), (256, 0, 256), (100, 10, 50), (5000, 700.3, 3000)])
def test_windows_cover_the_core_and_overlap(size, low, high):
    starts = _starts(size, low, high)
    assert starts[0] <= max(0, low)
    assert starts[-1] + 256 >= min(size, high)
    assert all(0 < b - a <= 192 for a, b in pairwise(starts))
    assert starts[0] >= 0
    assert starts[-1] + 256 <= max(size, 256)


def test_touching_nuclei_are_two():
    labels = np.zeros((64, 96), int)
    labels[16:48, 16:48], labels[16:48, 48:80] = 1, 2
    x = (np.arange(96) % 32 - 15.5)[None, :].repeat(64, 0) / 16
    x = np.roll(x, 16, axis=1)
    y = np.roll((np.arange(64) % 32 - 15.5) / 16, 16)[:, None].repeat(96, 1)
    found = hover.segment(labels > 0, (np.stack([x, y]) * (labels > 0)).astype(np.float32))
    assert len(np.unique(found)) == 3
    assert len(np.unique(found[:, 16:46])) == 2


def test_a_pixels_class_of_background_never_wins_against_another():
    labels = np.pad(np.ones((8, 8), np.int32), 4)
    types = np.zeros_like(labels)
    types[5:7, 5:7] = 4
    (nucleus,) = hover.describe(labels, types)
    assert (nucleus.type, nucleus.share) == (4, 4 / 64)
    (nucleus,) = hover.describe(labels, np.zeros_like(labels))
    assert nucleus.type == 0


@pytest.mark.parametrize(
    ("image", "mpp", "reason"),
    [
        (np.zeros((64, 64), np.uint8), MPP, Reason.OPTION_INVALID),
        (np.zeros((64, 64, 3), np.float32), MPP, Reason.OPTION_INVALID),
        (np.zeros((64, 64, 3), np.uint8), 1.0, Reason.TOO_COARSE),
    ],
)
def test_what_cannot_be_read_is_refused(image, mpp, reason):
    with pytest.raises(HwsiError) as caught:
        Drawn().encode(image, mpp)
    assert caught.value.reason is reason


def test_seeded_weights_give_a_whole_encoder():
    image = np.random.default_rng(0).integers(0, 256, (256, 256, 3), np.uint8)
    encoder = build_256(None)
    cells = encoder.encode(image, MPP)
    assert cells.features.shape == (len(cells), 384)
    assert np.isfinite(cells.features).all()
    assert encoder.maps(torch.from_numpy(image)[None]).tokens.shape == (1, 384, 16, 16)


@pytest.fixture(scope="module")
def state():
    return cellvit_256().state_dict()


def refusal(build, file):
    with pytest.raises(HwsiError) as caught:
        build(file)
    text = str(caught.value)
    assert caught.value.reason is Reason.WEIGHTS_MISMATCH
    assert file.name in text
    assert "\n" not in text
    return text


def test_weights_of_another_network_are_refused(state, tmp_path):
    file = tmp_path / "CellViT-256-x40-AMP.pth"
    torch.save({"arch": "CellViT256", "config": {}, "model_state_dict": state}, file)
    assert "CellViT256, not a CellViTSAM" in refusal(build_sam_h, file)
    assert build_256(file).spec is CELLVIT_256


def test_missing_and_unexpected_tensors_are_named(state, tmp_path):
    file = tmp_path / "wrong.pth"
    other = dict(state)
    other["encoder.extra"] = other.pop("encoder.cls_token")
    torch.save({"arch": "CellViT256", "model_state_dict": other}, file)
    text = refusal(build_256, file)
    assert "missing encoder.cls_token" in text
    assert "unexpected encoder.extra" in text


def test_the_checkpoints_own_colours_are_used(state, tmp_path):
    file = tmp_path / "other.pth"
    config = {"transformations.normalize.mean": [0.7, 0.6, 0.5], "transformations.normalize.std": [0.2, 0.2, 0.1]}
    torch.save({"arch": "CellViT256", "config": config, "model_state_dict": state}, file)
    encoder = build_256(file)
    assert encoder.mean == (0.7, 0.6, 0.5)
    assert encoder.deviation == (0.2, 0.2, 0.1)


def test_a_pickle_with_code_is_not_run(tmp_path):
    ran = tmp_path / "ran"

    class Trap:
        def __reduce__(self):
            return (ran.touch, ())

    file = tmp_path / "trap.pth"
    file.write_bytes(pickle.dumps({"model_state_dict": Trap()}, protocol=2))
    refusal(build_256, file)
    assert not ran.exists()


def test_cards_are_listed_without_torch():
    code = (
        "import sys, hwsi.encoders.cell_slide_cards as c; from hwsi.encoders import registry;"
        "assert {'cellvit_256','cellvit_sam_h','instanseg','slide-mean','titan','prism'} <= registry._SPECS.keys();"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_other_spellings_find_the_card():
    assert registry.get("CellViT-256") is cell_slide_cards.CELLVIT_256
