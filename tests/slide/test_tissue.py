"""Tissue, pen, coverage, users' masks, sharpness."""

import json

import cv2
import numpy as np
import pytest
import shapely
import slide_makers as make
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from PIL import Image as Pil

from hwsi.errors import HwsiError
from hwsi.slide import find_tissue, open_slide, region_focus
from hwsi.slide.outline import mask_to_polygons, polygons_to_mask
from hwsi.slide.quality import sharpness
from hwsi.slide.stain import pen_marks
from hwsi.slide.tissue import Tissue


def as_slide(tmp_path, pixels, mpp=8.0):
    path = tmp_path / "slide.png"
    cv2.imwrite(str(path), pixels[..., ::-1])
    return open_slide(path, mpp=mpp)


def agreement(mask, shapes):
    """Dice of a mask with discs (x, y, r)."""
    want = np.zeros(mask.shape, np.uint8)
    for x, y, r in shapes:
        cv2.circle(want, (x, y), r, 1, -1)
    return 2 * (mask & (want == 1)).sum() / (mask.sum() + want.sum())


@pytest.mark.parametrize("colour", [(205, 120, 175), (95, 70, 140), (232, 205, 226), (120, 105, 170)])
def test_discs_of_tissue_are_found_dense_or_faint(tmp_path, colour):
    discs = [(120, 110, 70), (300, 200, 50)]
    specks = [(40, 250, 3), (380, 40, 4)]
    tissue = find_tissue(as_slide(tmp_path, make.h_and_e(400, 300, discs + specks, colour)))
    assert agreement(tissue.mask, discs) > 0.97
    assert not tissue.pen.any()
    assert len(tissue.polygons) == 2
    assert tissue.area_mm2 == pytest.approx(np.pi * (70**2 + 50**2) * 64e-6, rel=0.05)


def test_blank_is_none_and_full_is_all(tmp_path):
    blank = find_tissue(as_slide(tmp_path, make.h_and_e(300, 300, [])))
    assert not blank.mask.any()
    assert blank.polygons == []
    assert blank.fraction([[0, 0]], 100)[0] == 0
    full = find_tissue(as_slide(tmp_path, make.h_and_e(300, 300, [(150, 150, 400)])))
    assert full.mask.mean() > 0.99
    white = find_tissue(as_slide(tmp_path, np.full((50, 60, 3), 255, np.uint8)))
    black = find_tissue(as_slide(tmp_path, np.zeros((50, 60, 3), np.uint8)))
    assert not white.mask.any()
    assert not black.mask.any()


def test_small_holes_are_filled_and_large_ones_stay(tmp_path):
    pixels = make.h_and_e(400, 400, [(200, 200, 150)])
    cv2.circle(pixels, (130, 200), 10, (243, 242, 245), -1)  # 160 µm: an alveolus
    cv2.circle(pixels, (240, 200), 40, (243, 242, 245), -1)  # 640 µm: a hole
    tissue = find_tissue(as_slide(tmp_path, pixels))
    assert tissue.mask[200, 130]
    assert not tissue.mask[200, 240]
    assert [len(p.interiors) for p in tissue.polygons] == [1]


PENS = {
    "green": (20, 130, 90),
    "blue": (40, 80, 190),
    "light blue": (120, 170, 225),
    "red": (215, 25, 30),
    "black": (40, 40, 44),
}


@pytest.mark.parametrize("pen", PENS)
def test_pens_are_taken_out(tmp_path, pen):
    disc = (150, 150, 90)
    pixels = make.h_and_e(500, 300, [disc])
    cv2.line(pixels, (330, 40), (450, 260), PENS[pen], 14, cv2.LINE_AA)
    tissue = find_tissue(as_slide(tmp_path, pixels))
    assert tissue.pen[150, 390]
    assert agreement(tissue.mask, [disc]) > 0.97
    assert tissue.fraction([[385, 145]], 10, "pen")[0] == 1


@pytest.mark.parametrize(
    "colour",
    [
        (110, 95, 160),
        (90, 92, 155),
        (75, 55, 125),
        (60, 40, 110),
        (170, 50, 70),
        (185, 60, 85),
        (120, 80, 60),
        (160, 165, 200),
    ],
    ids=["lymph node", "bluish lymph node", "dense", "fold", "blood", "red cells", "melanin", "counterstain"],
)
def test_tissue_is_not_taken_for_pen(colour):
    assert not pen_marks(make.h_and_e(300, 300, [(150, 150, 100)], colour), 100).any()


@pytest.mark.parametrize(
    ("name", "mpp", "pen", "tissue", "pen_at", "tissue_at"),
    [
        ("tcga-green-pen.png", 4.0, (0.14, 0.25), (0.7, 0.86), (0.35, 0.4), (0.8, 0.5)),
        ("tcga-red-pen.png", 2.0, (0.15, 0.35), (0.5, 0.75), (0.25, 0.6), (0.7, 0.5)),
        ("wsi-blue-pen.png", 40.0, (0.02, 0.09), (0.2, 0.4), (0.97, 0.5), (0.55, 0.5)),
    ],
)
def test_real_pens(name, mpp, pen, tissue, pen_at, tissue_at):
    with open_slide(make.shared("data", "thumbnails", name), mpp=mpp) as slide:
        found = find_tissue(slide)
    assert pen[0] < found.pen.mean() < pen[1]
    assert tissue[0] < found.mask.mean() < tissue[1]
    h, w = found.mask.shape
    assert found.pen[int(pen_at[1] * h), int(pen_at[0] * w)]
    assert found.mask[int(tissue_at[1] * h), int(tissue_at[0] * w)]


@pytest.mark.parametrize(
    ("name", "low", "high"),
    [
        ("CMU-1-Small-Region.svs", 0.3, 0.5),
        ("instanseg_HE_example.ome.tif", 0.65, 0.8),
        ("hamamatsu-test3-DAPI-2-387.ndpi", 0.2, 0.9),
        ("dicom/multiframe_camelyon_challenge_image.dcm", 0.15, 0.35),
        ("dicom/highdicom_sm_image.dcm", 0, 0.01),
        ("small.svs", 0, 1),
    ],
)
def test_real_slides(name, low, high):
    with open_slide(make.shared("data", "slides", name)) as slide:
        tissue = find_tissue(slide)
        assert low <= tissue.mask.mean() <= high
        assert not tissue.pen.any()
        assert all(p.is_valid for p in tissue.polygons)
        area0 = sum(p.area for p in tissue.polygons) * slide.mpp**2 / 1e6
        assert area0 == pytest.approx(tissue.area_mm2, rel=0.02, abs=1e-6)
        border = shapely.box(
            -tissue.scale0, -tissue.scale0, slide.width0 + tissue.scale0, slide.height0 + tissue.scale0
        )
        assert all(border.contains(p) for p in tissue.polygons)


@given(
    mask=npst.arrays(np.bool_, st.tuples(st.integers(1, 12), st.integers(1, 12))),
    scale=st.sampled_from([1.0, 2.5, 4.0, 16.0]),
    x=st.floats(-40, 60),
    y=st.floats(-40, 60),
    size0=st.floats(0.5, 60),
)
@settings(max_examples=120, deadline=None)
def test_fraction_is_the_covered_area(mask, scale, x, y, size0):
    h, w = mask.shape
    tissue = Tissue(mask, ~mask, 1.0, (scale, scale), (int(w * scale), int(h * scale)), [])
    wide, high = int(w * scale), int(h * scale)  # level 0 ends inside the last mask pixel
    for which, grid in (("mask", mask), ("pen", ~mask)):
        want = 0.0
        for j, i in np.argwhere(grid):
            dx = min(x + size0, (i + 1) * scale, wide) - max(x, i * scale)
            dy = min(y + size0, (j + 1) * scale, high) - max(y, j * scale)
            want += max(0, dx) * max(0, dy)
        assert tissue.fraction([[x, y]], size0, which)[0] == pytest.approx(want / size0**2, abs=1e-4)


@given(mask=npst.arrays(np.bool_, st.tuples(st.integers(1, 14), st.integers(1, 14))))
@settings(max_examples=80, deadline=None)
def test_outlines_are_valid_and_draw_the_mask_again(mask):
    assert all(p.is_valid for p in mask_to_polygons(mask, (1.5, 1.5)))
    mask = np.kron(mask, np.ones((3, 3), np.bool_))  # an outline cuts corners: what is one pixel wide loses half
    polygons = mask_to_polygons(mask, (4.0, 4.0))
    assert all(p.is_valid for p in polygons)
    again = polygons_to_mask(polygons, mask.shape[::-1], (4.0, 4.0))
    # only at a corner may a pixel be off
    inner, outer = cv2.erode(mask.astype(np.uint8), np.ones((3, 3))), cv2.dilate(mask.astype(np.uint8), np.ones((3, 3)))
    assert again[inner == 1].all()
    assert not again[outer == 0].any()
    assert (again != mask).sum() <= 0.06 * mask.sum() + 1


def test_users_masks(tmp_path):
    slide = as_slide(tmp_path, make.h_and_e(400, 300, [(100, 100, 50)]), mpp=2.0)
    image = np.zeros((75, 100), np.uint8)
    image[10:40, 20:60] = 255
    cv2.imwrite(str(tmp_path / "mask.png"), image)
    found = find_tissue(slide, mask=tmp_path / "mask.png")
    assert found.polygons[0].bounds == pytest.approx((80, 40, 240, 160), abs=4)
    assert found.fraction([[100, 60]], 80)[0] == 1
    square = {"type": "Polygon", "coordinates": [[[80, 40], [240, 40], [240, 160], [80, 160], [80, 40]]]}
    feature = {"type": "Feature", "properties": {}, "geometry": square}
    for data in (square, feature, [feature], {"type": "FeatureCollection", "features": [feature]}):
        (tmp_path / "mask.geojson").write_text(json.dumps(data))
        found = find_tissue(slide, mask=tmp_path / "mask.geojson")
        assert [p.area for p in found.polygons] == [160 * 120]
        assert found.area_mm2 == pytest.approx(160 * 120 * 4e-6, rel=0.06)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("nope.png", None, "no mask"),
        ("text.png", "hello", "no image"),
        ("bad.geojson", "{", "no JSON"),
        ("none.geojson", '{"type": "Point", "coordinates": [1, 2]}', "no polygon"),
        ("cut.geojson", '{"type": "Polygon", "coordinates": [[[0, 0], "x"]]}', "geometry"),
        (
            "far.geojson",
            '{"type": "Polygon", "coordinates": [[[9000, 0], [9100, 0], [9100, 90], [9000, 0]]]}',
            "outside",
        ),
    ],
)
def test_masks_that_do_not_fit_are_refused(tmp_path, name, content, words):
    slide = as_slide(tmp_path, make.h_and_e(400, 300, []))
    if content is not None:
        (tmp_path / name).write_text(content)
    with pytest.raises(HwsiError, match=f"mask_invalid.*{words}"):
        find_tissue(slide, mask=tmp_path / name)


def test_a_mask_as_qupath_and_windows_write_it(tmp_path):
    slide = as_slide(tmp_path, make.h_and_e(400, 300, []), mpp=2.0)
    ring = [[80, 40], [240, 40], [240, 160], [80, 160], [80, 40]]
    exported = {
        "type": "FeatureCollection",
        "features": [
            {
                "type": "Feature",
                "id": "9f1c2d6e-0000-4000-8000-000000000001",
                "geometry": {"type": "Polygon", "coordinates": [ring], "plane": {"c": -1, "z": 0, "t": 0}},
                "properties": {
                    "objectType": "annotation",
                    "classification": {"name": "Tissue", "color": [200, 0, 0]},
                    "isLocked": True,
                },
            },
            {"type": "Feature", "geometry": {"type": "LineString", "coordinates": ring[:2]}, "properties": {}},
            {"type": "Feature", "geometry": None, "properties": {}},
        ],
    }
    (tmp_path / "mask.geojson").write_text(json.dumps(exported), encoding="utf-8-sig")
    assert [p.area for p in find_tissue(slide, mask=tmp_path / "mask.geojson").polygons] == [160 * 120]


def test_masks_that_mark_nothing(tmp_path):
    slide = as_slide(tmp_path, make.h_and_e(400, 300, [(100, 100, 50)]))
    cv2.imwrite(str(tmp_path / "black.png"), np.zeros((300, 400), np.uint8))
    (tmp_path / "none.geojson").write_text('{"type": "FeatureCollection", "features": []}')
    (tmp_path / "empty.geojson").write_text("")
    for name, words in (("black.png", "black"), ("none.geojson", "no polygon"), ("empty.geojson", "no JSON")):
        with pytest.raises(HwsiError, match=f"mask_invalid.*{words}"):
            find_tissue(slide, mask=tmp_path / name)


def test_a_mask_painted_on_a_clear_layer(tmp_path):
    slide = as_slide(tmp_path, make.h_and_e(400, 300, []), mpp=2.0)
    layer = np.full((300, 400, 4), 255, np.uint8)
    layer[..., 3] = 0  # clear, though white below
    layer[40:160, 80:240, 3] = 255
    cv2.imwrite(str(tmp_path / "mask.png"), layer)
    found = find_tissue(slide, mask=tmp_path / "mask.png")
    assert found.polygons[0].bounds == pytest.approx((80, 40, 240, 160), abs=4)


def test_a_mask_with_more_pixels_than_opencv_places(tmp_path):
    slide = as_slide(tmp_path, make.h_and_e(900, 20, []), mpp=2.0)
    wide = np.zeros((800, 36000), np.uint8)
    wide[:, 18000:] = 255
    cv2.imwrite(str(tmp_path / "mask.png"), wide)
    assert find_tissue(slide, mask=tmp_path / "mask.png").polygons[0].bounds[0] == pytest.approx(450, abs=4)


def test_a_mask_of_other_proportions_is_refused(tmp_path):
    slide = as_slide(tmp_path, make.h_and_e(400, 300, []))
    cv2.imwrite(str(tmp_path / "m.png"), np.zeros((300, 420), np.uint8))
    with pytest.raises(HwsiError, match="proportions"):
        find_tissue(slide, mask=tmp_path / "m.png")


def test_blur_lowers_focus_step_by_step():
    with open_slide(make.shared("data", "slides", "CMU-1-Small-Region.svs")) as slide:
        centre = np.array([[700, 1500], [1000, 2300], [0, 0]])
        focus = region_focus(slide, centre, 512)
        image = slide.read(700, 1500, 256, 1.0)
    assert focus.dtype == np.float32
    assert focus[:2].min() > 0.7
    assert focus[2] == 0  # blank
    steps = [sharpness(cv2.GaussianBlur(image, (0, 0), s)) for s in (0.5, 1, 2, 3, 4)]
    assert steps == sorted(steps, reverse=True)
    assert steps[0] > 0.7
    assert steps[-1] < 0.25


def test_a_cloud_of_blur_in_a_region_lowers_its_focus(tmp_path):
    """Blur of 2.25 µm over two thirds, one third and one ninth of a region, as an uneven section shows it."""
    with open_slide(make.shared("data", "slides", "CMU-1-Small-Region.svs")) as slide:
        sharp = slide.read(600, 1400, 384, 1.0)
    blurred = cv2.GaussianBlur(sharp, (0, 0), 2.25)
    focus = []
    for share in (0, 1 / 9, 1 / 3, 2 / 3):
        image = sharp.copy()
        wide = round(384 * max(share, 1 / 3)) if share else 0
        high = 128 if share == 1 / 9 else 384
        image[:high, :wide] = blurred[:high, :wide]
        folder = tmp_path / f"{share:.2f}"
        folder.mkdir()
        with as_slide(folder, image, mpp=1.0) as slide:
            focus.append(float(region_focus(slide, [[0, 0]], 384)[0]))
    assert focus[0] > 0.75
    assert focus[1] > 0.7  # one window does not speak for a region
    assert focus[2] < 0.6
    assert focus[3] < 0.4


def test_larger_than_any_glass_is_damage(tmp_path):
    """Headers that cannot be would ask for more memory and time than there is."""
    path = tmp_path / "slide.png"
    Pil.new("1", (6000, 5000)).save(path)
    with open_slide(path, mpp=50.0) as slide, pytest.raises(HwsiError, match=r"slide_corrupt.*300 x 250 mm.*--mpp"):
        find_tissue(slide)


def test_the_mask_of_a_giant_slide_is_no_giant(tmp_path, monkeypatch):
    monkeypatch.setattr("hwsi.slide.tissue._MOST_PX", 10_000)
    disc = (200, 150, 100)
    tissue = find_tissue(as_slide(tmp_path, make.h_and_e(400, 300, [disc])))
    assert tissue.mask.size <= 10_400
    assert tissue.mpp == pytest.approx(8 * 12**0.5)
    assert tissue.area_mm2 == pytest.approx(np.pi * 0.8**2, rel=0.1)
