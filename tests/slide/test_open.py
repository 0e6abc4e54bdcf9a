"""What opens, what is refused and why, where the pixel size comes from."""

import math
import pickle
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
import slide_makers as make
import tifffile

from hwsi.errors import HwsiError, Reason
from hwsi.slide import mpp as chain
from hwsi.slide import open_slide

GOOD = {
    "CMU-1-Small-Region.svs": ("aperio", 1, "aperio.MPP", 0.499),
    "small.svs": ("aperio", 1, "aperio.MPP", 0.499),
    "boxes.tiff": ("generic-tiff", 4, "none", None),
    "cmu1_small_pyramid.tiff": ("generic-tiff", 3, "tiff-resolution", 0.499),
    "cmu1_small_pyramid.ome.tif": ("ome-tiff", 3, "ome", 0.499),
    "instanseg_HE_example.ome.tif": ("ome-tiff", 1, "ome", 0.50008),
    "hamamatsu-test3-DAPI-2-387.ndpi": ("hamamatsu", 7, "hamamatsu (openslide.mpp)", 0.228175),
    "dicom/boxes_0.dcm": ("dicom", 1, "dicom (openslide.mpp)", 0.499),
    "dicom/highdicom_sm_image.dcm": ("dicom", 1, "dicom (openslide.mpp)", 0.499),
    "dicom/jpeg.dcm": ("dicom", 1, "dicom (openslide.mpp)", 16.783),
    "dicom/multiframe_camelyon_challenge_image.dcm": ("dicom", 1, "dicom (openslide.mpp)", 28.9685),
}


@pytest.mark.parametrize("name", GOOD)
def test_every_good_slide_opens_and_reads(name):
    vendor, levels, source, mpp = GOOD[name]
    with open_slide(make.shared("data", "slides", name)) as slide:
        assert (slide.vendor, len(slide.levels), slide.mpp_source) == (vendor, levels, source)
        assert len(slide.slide_id) == 32
        for k, level in enumerate(slide.levels):
            assert slide.read_level(k, 0, 0, level.width, min(64, level.height)).shape[1:] == (level.width, 3)
        if mpp is None:
            with pytest.raises(HwsiError, match=r"mpp_missing.*--mpp"):
                _ = slide.mpp
        else:
            assert slide.mpp == pytest.approx(mpp, rel=1e-4)


def refusal(path: Path, **kw) -> HwsiError:
    with pytest.raises(HwsiError) as caught:
        open_slide(path, **kw).thumbnail(0.499)
    return caught.value


@pytest.mark.parametrize(
    ("name", "reason", "words"),
    [
        ("broken.svs", Reason.SLIDE_UNSUPPORTED, "text file"),
        ("label_only.dcm", Reason.SLIDE_UNSUPPORTED, "only a label"),
        ("unopenable.tiff", Reason.SLIDE_UNSUPPORTED, "compression: 52479"),
        ("unreadable.svs", Reason.SLIDE_CORRUPT, "pixels"),
    ],
)
def test_broken_slides_are_refused_each_for_its_reason(name, reason, words):
    error = refusal(make.shared("data", "slides", "broken", name))
    assert error.reason is reason
    assert words in str(error)
    assert error.todo


def test_an_error_of_openslide_poisons_nothing():
    with open_slide(make.shared("data", "slides", "broken", "unreadable.svs")) as slide:
        for _ in range(3):
            with pytest.raises(HwsiError, match="slide_corrupt"):
                slide.read_level(0, 0, 0, 8, 8)
        assert slide.read_level(0, 100, 100, 4, 4).min() == 255  # outside is white, whatever the file holds
    with open_slide(make.shared("data", "slides", "small.svs")) as good:
        assert good.read_level(0, 0, 0, 8, 8).shape == (8, 8, 3)


def test_missing_empty_text_directory_garbage_and_truncated(tmp_path):
    (tmp_path / "empty.svs").write_bytes(b"")
    (tmp_path / "text.svs").write_text("dear pathologist, grüß Gott\n" * 30, encoding="utf-8")
    (tmp_path / "noise.svs").write_bytes(np.random.default_rng(0).bytes(3000))
    (tmp_path / "noise.bin").write_bytes(np.random.default_rng(1).bytes(3000))
    (tmp_path / "folder").mkdir()
    whole = make.generic(tmp_path / "whole.tiff", make.picture(300, 300), compression=None).read_bytes()
    (tmp_path / "cut.tiff").write_bytes(whole[: len(whole) // 3])
    (tmp_path / "header.tiff").write_bytes(b"II*\0" + b"\xff" * 60)
    names = ("nope.svs", "empty.svs", "text.svs", "noise.svs", "noise.bin", "folder", "cut.tiff", "header.tiff")
    got = {name: refusal(tmp_path / name).reason for name in names}
    assert got == {
        "nope.svs": Reason.SLIDE_MISSING,
        "empty.svs": Reason.SLIDE_EMPTY,
        "text.svs": Reason.SLIDE_UNSUPPORTED,
        "noise.svs": Reason.SLIDE_CORRUPT,
        "noise.bin": Reason.SLIDE_UNSUPPORTED,
        "folder": Reason.SLIDE_UNSUPPORTED,
        "cut.tiff": Reason.SLIDE_CORRUPT,
        "header.tiff": Reason.SLIDE_CORRUPT,
    }


def test_tile_data_cut_short_is_corrupt(tmp_path):
    path = make.generic(tmp_path / "a.tiff", make.picture(200, 200))
    with tifffile.TiffFile(path) as tif:
        where, n = tif.pages[0].dataoffsets[5], tif.pages[0].databytecounts[5]
    data = bytearray(path.read_bytes())
    data[where : where + n] = b"\x55" * n
    path.write_bytes(bytes(data))
    assert refusal(path).reason is Reason.SLIDE_CORRUPT


def test_dicom_directory_opens_as_its_slide(tmp_path):
    shutil.copy(make.shared("data", "slides", "dicom", "boxes_0.dcm"), tmp_path / "x")
    with open_slide(tmp_path) as slide:
        assert (slide.vendor, slide.width0, slide.name) == ("dicom", 16, tmp_path.name)


def test_plain_pictures(tmp_path):
    pixels = make.picture(90, 70)
    alpha = np.dstack([pixels, np.full(pixels.shape[:2], 255, np.uint8)])
    alpha[:10, :, 3] = 0
    cv2.imwrite(str(tmp_path / "a.png"), pixels[..., ::-1])
    cv2.imwrite(str(tmp_path / "b.png"), np.dstack([alpha[..., 2::-1], alpha[..., 3]]))
    cv2.imwrite(str(tmp_path / "c.jpg"), pixels[..., ::-1])
    tifffile.imwrite(tmp_path / "d.tif", pixels, photometric="rgb", rowsperstrip=13, metadata=None)
    tifffile.imwrite(tmp_path / "e.tif", pixels[..., 0], photometric="minisblack", metadata=None)
    for name in ("a.png", "b.png", "c.jpg", "d.tif", "e.tif"):
        with open_slide(tmp_path / name, mpp=1.0) as slide:
            got = slide.read_level(0, 0, 10, 90, 60)
            want = np.repeat(pixels[10:, :, :1], 3, 2) if name == "e.tif" else pixels[10:]
            assert np.abs(got.astype(int) - want).max() <= (60 if name == "c.jpg" else 0)
            assert slide.mpp_source == "user"
    with open_slide(tmp_path / "b.png", mpp=1.0) as slide:
        assert (slide.read_level(0, 0, 0, 90, 10) == 255).all()


@pytest.mark.parametrize("axes", ["YXS", "SYX", "CYX"])
def test_ome_levels_and_layouts(tmp_path, axes):
    pixels = make.picture(300, 200)
    options = {} if axes == "YXS" else {"planarconfig": "separate"} if axes == "SYX" else {"photometric": "minisblack"}
    path = make.ome(tmp_path / "a.ome.tif", pixels, axes=axes, **options)
    with open_slide(path) as slide:
        assert [(k.width, k.height, k.downsample) for k in slide.levels] == [(300, 200, 1), (150, 100, 2), (75, 50, 4)]
        assert (slide.vendor, slide.name, slide.mpp_source, slide.mpp) == ("ome-tiff", "a", "ome", 0.5)
        np.testing.assert_array_equal(slide.read_level(0, 17, 30, 200, 100), pixels[30:130, 17:217])
        np.testing.assert_array_equal(slide.read_level(1, 0, 0, 150, 100), make.halve(pixels))


@pytest.mark.parametrize(("size", "unit"), [(0.5, "µm"), (500.0, "nm"), (0.0005, "mm"), (0.00005, "cm")])
def test_ome_units(tmp_path, size, unit):
    with open_slide(make.ome(tmp_path / "a.ome.tif", make.picture(128, 128), size=size, unit=unit)) as slide:
        assert slide.mpp == pytest.approx(0.5)


def test_the_chain_in_its_order(tmp_path):
    pixels = make.picture(200, 200)
    both = make.svs(tmp_path / "a.svs", pixels)
    with open_slide(both) as slide:
        assert (slide.mpp, slide.mpp_source, slide.objective_power) == (0.25, "aperio.MPP", 40)
        assert "label" in slide.associated
    with open_slide(both, mpp=0.2631) as slide:
        assert (slide.mpp_xy, slide.mpp_source) == ((0.2631, 0.2631), "user")
    with open_slide(make.svs(tmp_path / "b.svs", pixels, fields="|AppMag = 20")) as slide:
        assert (slide.mpp, slide.mpp_source) == (0.5, "objective-power")
        assert "guessed" in slide.warnings[0]
    with open_slide(make.svs(tmp_path / "c.svs", pixels, fields="|AppMag = 20|MPP = 900")) as slide:
        assert slide.mpp_source == "objective-power"
        assert "900" in slide.warnings[0]
    with open_slide(make.generic(tmp_path / "d.tif", pixels, mpp=0.31)) as slide:
        assert slide.mpp == pytest.approx(0.31)
        assert slide.mpp_source == "tiff-resolution"
    with open_slide(make.generic(tmp_path / "e.tif", pixels, mpp=25400 / 72)) as slide:
        with pytest.raises(HwsiError, match="mpp_missing"):
            slide.read(0, 0, 10, 1.0)
        assert slide.read_level(0, 0, 0, 5, 5).shape == (5, 5, 3)
    with (
        open_slide(make.svs(tmp_path / "f.svs", pixels, fields="|MPP = 900")) as slide,
        pytest.raises(HwsiError) as caught,
    ):
        _ = slide.mpp
    assert caught.value.reason is Reason.MPP_INVALID


@pytest.mark.parametrize("mpp", [0.0, -0.5, math.nan, math.inf, 0.01, 51.0])
def test_a_users_mpp_that_cannot_be_is_refused(tmp_path, mpp):
    path = make.generic(tmp_path / "a.tif", make.picture(64, 64))
    assert refusal(path, mpp=mpp).reason is Reason.MPP_INVALID


def test_resolution_tags():
    assert chain.from_resolution(1e5, 5e4, "inch") == (("tiff-resolution", 0.254, 0.508),)
    for dpi in (72, 96, 300, 600):
        assert chain.from_resolution(dpi, dpi, "inch") == ()
        assert chain.from_resolution(dpi / 2.54, dpi / 2.54, "centimeter") == ()
    assert chain.from_resolution(20000, 20000, "none") == ()
    assert chain.from_resolution(1, 1, "centimeter") == ()


def test_openslide_properties_of_other_vendors():
    hints = chain.from_openslide({"openslide.vendor": "x", "openslide.mpp-x": "0.25", "openslide.mpp-y": "0.26"})
    assert chain.resolve_mpp(None, hints).xy == (0.25, 0.26)
    hints = chain.from_openslide({"openslide.vendor": "ventana", "ventana.ScanRes": "0,25"})
    assert chain.resolve_mpp(None, hints).source == "ventana.ScanRes"
    assert chain.from_ome("<OME><broken") == ()


def test_identity_and_pickle(tmp_path):
    path = make.generic(tmp_path / "a.tif", make.picture(200, 200))
    copy = Path(shutil.copy(path, tmp_path / "other name.tif"))
    changed = make.generic(tmp_path / "c.tif", make.picture(200, 200, seed=1))
    with open_slide(path, mpp=0.3) as slide, open_slide(copy) as same, open_slide(changed) as other:
        assert slide.slide_id == same.slide_id != other.slide_id
        again = pickle.loads(pickle.dumps(slide))
        assert (again.slide_id, again.mpp) == (slide.slide_id, 0.3)
        np.testing.assert_array_equal(again.read(3, 4, 50, 0.7), slide.read(3, 4, 50, 0.7))
    with pytest.raises(ValueError, match="closed"):
        slide.read_level(0, 0, 0, 5, 5)
