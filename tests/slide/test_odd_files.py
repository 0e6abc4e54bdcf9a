"""What a hospital's folder holds besides good slides: odd colours, stacks, damage, lost shares, strange names."""

import errno
import logging
import os
import shutil
import warnings
from pathlib import Path

import numpy as np
import pytest
import slide_makers as make
import tifffile
from PIL import Image as Pil

from hwsi.errors import HwsiError, Reason
from hwsi.slide import open_slide
from hwsi.slide import tiff_file as tiffs
from hwsi.slide.colour import Colour

PIXELS = make.picture(150, 110)
PICTURE = Pil.fromarray(PIXELS)
GREY = np.repeat(PIXELS[..., :1], 3, axis=2)


def whole(path: Path) -> np.ndarray:
    with open_slide(path) as slide:
        return slide.read_level(0, 0, 0, slide.width0, slide.height0)


def refusal(path: Path) -> HwsiError:
    with pytest.raises(HwsiError) as caught, open_slide(path) as slide:
        slide.check()
    assert "\n" not in str(caught.value)
    assert caught.value.todo
    return caught.value


@pytest.mark.parametrize(
    "name", ["cmyk.tif", "cmyk.jpg", "palette.tif", "palette.png", "grey.png", "one.tif", "la.png"]
)
def test_colour_models_give_the_colours_that_they_mean(tmp_path, name):
    mode = {"cmyk": "CMYK", "grey": "L", "one": "1", "la": "LA"}.get(Path(name).stem)
    image = PICTURE.convert(mode) if mode else PICTURE.quantize(120)
    image.save(tmp_path / name, **({"quality": 95} if name.endswith("jpg") else {}))
    want = np.asarray(image.convert("RGB")).astype(int)
    assert np.abs(whole(tmp_path / name) - want).max() <= (12 if name.endswith("jpg") else 1)


def test_sixteen_bits_twelve_bits_and_four(tmp_path):
    Pil.fromarray(PIXELS[..., 0].astype(np.uint16) * 257).save(tmp_path / "a.png")
    np.testing.assert_array_equal(whole(tmp_path / "a.png"), GREY)
    for order in "<>":
        for tile in ({}, {"tile": (64, 64)}):
            tifffile.imwrite(
                tmp_path / "a.tif", PIXELS.astype(np.uint16) * 257, byteorder=order, photometric="rgb", metadata=None,
                bigtiff=order == ">", **tile,
            )  # fmt: skip
            np.testing.assert_array_equal(whole(tmp_path / "a.tif"), PIXELS)
    twelve = (PIXELS[..., 0].astype(np.uint32) * 4095 // 255).astype(np.uint16)
    assert np.abs(Colour("grey", 12).rgb(twelve).astype(int) - GREY).max() <= 1
    assert Colour("grey", 4).rgb(np.array([[0, 15]], np.uint8))[..., 0].tolist() == [[0, 255]]


@pytest.mark.parametrize("tile", [{}, {"tile": (64, 64)}], ids=["strips", "tiles"])
def test_alpha_as_its_tag_says(tmp_path, tile):
    half = np.full((*PIXELS.shape[:2], 1), 128, np.uint8)
    want = PIXELS * (128 / 255) + 127
    premultiplied = (PIXELS * (128 / 255)).astype(np.uint8)
    for kind, colours in (("unassalpha", PIXELS), ("assocalpha", premultiplied)):
        pixels = np.dstack([colours, half])
        tifffile.imwrite(
            tmp_path / "a.tif", pixels, photometric="rgb", extrasamples=[kind], metadata=None, **tile
        )  # fmt: skip
        assert np.abs(whole(tmp_path / "a.tif") - want).max() <= 2
    pixels = np.dstack([PIXELS, half * 0])
    tifffile.imwrite(tmp_path / "a.ome.tif", pixels, photometric="rgb", extrasamples=["unspecified"], **tile)
    np.testing.assert_array_equal(whole(tmp_path / "a.ome.tif"), PIXELS)


def test_what_has_no_single_rgb_image_is_refused_for_its_reason(tmp_path):
    PICTURE.convert("LAB").save(tmp_path / "lab.tif")
    assert "CIELAB" in refusal(tmp_path / "lab.tif").what
    for name in ("codec.tif", "codec.ome.tif"):
        tifffile.imwrite(tmp_path / name, PIXELS, photometric="rgb", compression="deflate")
        with tifffile.TiffFile(tmp_path / name, mode="r+") as tif:
            tif.pages[0].tags["Compression"].overwrite(52479)
        error = refusal(tmp_path / name)
        assert error.reason is Reason.SLIDE_UNSUPPORTED
        assert "52479" in error.what
    for axes, shape in (("ZYX", (4,)), ("CYX", (2,)), ("TYX", (3,))):
        stack = np.zeros((*shape, 90, 80), np.uint8)
        tifffile.imwrite(tmp_path / "stack.ome.tif", stack, metadata={"axes": axes}, photometric="minisblack")
        error = refusal(tmp_path / "stack.ome.tif")
        assert error.reason is Reason.SLIDE_UNSUPPORTED
        assert "stack" in error.what
        assert "one plane" in error.todo
    tifffile.imwrite(tmp_path / "float.tif", PIXELS.astype(np.float32), photometric="rgb", metadata=None)
    assert "16 bits" in refusal(tmp_path / "float.tif").what


@pytest.mark.parametrize("there", [1, 2, 3])
@pytest.mark.parametrize("tile", [None, (64, 64)], ids=["strips", "tiles"])
def test_an_image_spread_over_several_files_is_refused(tmp_path, there, tile):
    """One of its files alone would be read as all of them."""
    uuid = "urn:uuid:0000000{}-0000-4000-8000-000000000000"
    planes = "".join(
        f'<TiffData FirstC="{k}" IFD="0" PlaneCount="1"><UUID FileName="{k}.ome.tif">{uuid.format(k)}</UUID></TiffData>'
        for k in range(3)
    )
    channels = "".join(f'<Channel ID="Channel:0:{k}" SamplesPerPixel="1"/>' for k in range(3))
    for k in range(there):
        xml = (
            f'<?xml version="1.0" encoding="UTF-8"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" '
            f'UUID="{uuid.format(k)}"><Image ID="Image:0"><Pixels ID="Pixels:0" DimensionOrder="XYCZT" Type="uint8" '
            f'SizeX="150" SizeY="110" SizeC="3" SizeZ="1" SizeT="1">{channels}{planes}</Pixels></Image></OME>'
        )
        tifffile.imwrite(
            tmp_path / f"{k}.ome.tif",
            PIXELS[..., k],
            photometric="minisblack",
            description=xml,
            metadata=None,
            tile=tile,
        )
    assert "several files" in refusal(tmp_path / "0.ome.tif").what


def test_of_several_series_the_largest_with_its_own_pixel_size(tmp_path):
    with tifffile.TiffWriter(tmp_path / "a.ome.tif") as tif:
        for pixels, size, unit in ((PIXELS[::4, ::4], 9.0, "um"), (PIXELS, 250.0, "nm")):
            both = {f"PhysicalSize{a}{s}": v for a in "XY" for s, v in (("", size), ("Unit", unit))}
            tif.write(pixels, photometric="rgb", metadata={"axes": "YXS", **both})
    with open_slide(tmp_path / "a.ome.tif") as slide:
        assert (slide.width0, slide.height0, slide.mpp) == (150, 110, 0.25)


@pytest.mark.parametrize(
    ("unit", "per_unit", "mpp"), [("um", 2, 0.5), ("micron", 4, 0.25), ("\\u00B5m", 2, 0.5), ("pixel", 1, None)]
)
def test_imagej_names_its_unit_in_the_description(tmp_path, unit, per_unit, mpp):
    tifffile.imwrite(
        tmp_path / "a.tif", PIXELS[..., 0], imagej=True, resolution=(per_unit,) * 2, metadata={"unit": unit}
    )  # fmt: skip
    with open_slide(tmp_path / "a.tif") as slide:
        if mpp is None:
            assert slide.mpp_source == "none"
        else:
            assert (slide.mpp, slide.mpp_source) == (mpp, "imagej")


def test_a_users_mpp_against_the_files_is_used_and_told(tmp_path):
    path = make.generic(tmp_path / "a.tif", PIXELS, mpp=0.499)
    with open_slide(path, mpp=0.25) as slide:
        assert slide.mpp == 0.25
        assert "0.499" in slide.warnings[0]
    with open_slide(path, mpp=0.5) as slide:
        assert slide.warnings == ()


def test_a_camera_s_turn_is_not_followed(tmp_path):
    turned = Pil.Exif()
    turned[274] = 6
    PICTURE.save(tmp_path / "a.jpg", exif=turned, quality=95)
    with open_slide(tmp_path / "a.jpg") as slide:
        assert (slide.width0, slide.height0) == (150, 110)


def test_a_large_picture_warns_nobody_and_a_far_too_large_one_is_refused(tmp_path, monkeypatch):
    PICTURE.save(tmp_path / "a.png")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        monkeypatch.setattr(Pil, "MAX_IMAGE_PIXELS", 150 * 110 - 1)
        np.testing.assert_array_equal(whole(tmp_path / "a.png"), PIXELS)
        monkeypatch.setattr(Pil, "MAX_IMAGE_PIXELS", 5000)
        assert "too large" in refusal(tmp_path / "a.png").what


@pytest.mark.parametrize("name", ["a.png", "a.tif"])
def test_a_reader_may_write_into_what_it_read(tmp_path, name):
    path = tmp_path / name
    PICTURE.save(path)
    with open_slide(path) as slide:
        slide.read_level(0, 0, 0, 150, 110)[:] = 0
        np.testing.assert_array_equal(slide.read_level(0, 0, 0, 150, 110), PIXELS)


@pytest.mark.parametrize("kind", ["generic", "svs", "ome"])
def test_a_copy_that_broke_off_is_told_before_it_is_read(tmp_path, kind):
    """Tables first, pixels at the end, as scanners write: the file opens."""
    options = {"compression": None} if kind != "svs" else {}
    path = {"generic": make.generic, "svs": make.svs, "ome": make.ome}[kind](
        tmp_path / "a.tif", make.picture(400, 300), levels=1, **options
    )
    with open_slide(path) as slide:
        slide.check()
    with tifffile.TiffFile(path) as tif:
        end = max(o + n for p in tif.pages for o, n in zip(p.dataoffsets, p.databytecounts, strict=True))
    path.write_bytes(path.read_bytes()[: end - 2000] + b"" if kind != "svs" else path.read_bytes()[:-300])
    assert refusal(path).reason is Reason.SLIDE_CORRUPT


def test_a_slide_without_pixels_does_not_pass_the_check():
    assert refusal(make.shared("data", "slides", "broken", "unreadable.svs")).reason is Reason.SLIDE_CORRUPT
    for name in ("small.svs", "cmu1_small_pyramid.ome.tif", "hamamatsu-test3-DAPI-2-387.ndpi", "dicom/boxes_0.dcm"):
        with open_slide(make.shared("data", "slides", name)) as slide:
            slide.check()


def test_tifffile_is_silent_while_we_call_it_and_only_then(tmp_path, caplog):
    path = make.ome(tmp_path / "a.ome.tif", make.picture(400, 300))
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(tiffs.BROKEN), tifffile.TiffFile(path) as tif:
        _ = tif.series[0].levels[0].asarray()
    loud = len(caplog.records)
    refusal(path)
    assert len(caplog.records) == loud
    with tiffs.open_tiff(make.generic(tmp_path / "b.tif", PIXELS)):
        logging.getLogger("tifffile").error("muted")
    logging.getLogger("tifffile").error("heard")
    assert [r.message for r in caplog.records[loud:]] == ["heard"]


def test_absurd_tiles_are_refused_before_memory_is_asked_for(tmp_path):
    path = make.generic(tmp_path / "a.tif", PIXELS)
    with tifffile.TiffFile(path, mode="r+") as tif:
        for name in ("TileWidth", "TileLength"):
            tif.pages[0].tags[name].overwrite(60_000, dtype="I")
    error = refusal(path)
    assert error.reason is Reason.SLIDE_CORRUPT
    assert "60000 x 60000" in error.what


@pytest.mark.parametrize("tile", [{}, {"tile": (64, 64)}], ids=["strips", "tiles"])
def test_pages_in_a_circle_end(tmp_path, tile):
    """The table of the last page names the first as the next."""
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, PIXELS, photometric="rgb", metadata=None, **tile)
    with tifffile.TiffFile(path) as tif:
        first = tif.pages[0].offset
    data = bytearray(path.read_bytes())
    after = first + 2 + 12 * int.from_bytes(data[first : first + 2], "little")
    assert data[after : after + 4] == bytes(4)
    data[after : after + 4] = first.to_bytes(4, "little")
    path.write_bytes(data)
    assert refusal(path).reason is Reason.SLIDE_CORRUPT


def test_a_share_that_went_away_is_not_a_damaged_slide(tmp_path, monkeypatch):
    def gone(*args):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    for path in (make.generic(tmp_path / "a.tif", PIXELS), make.ome(tmp_path / "b.ome.tif", PIXELS)):
        with open_slide(path) as slide:
            slide.read_level(0, 0, 0, 64, 64)
            with monkeypatch.context() as patch:
                patch.setattr(os, "pread", gone)
                with pytest.raises(HwsiError, match=r"slide_missing.*network share"):
                    slide.read_level(0, 0, 0, 64, 64)
            assert slide.read_level(0, 0, 0, 64, 64).shape == (64, 64, 3)


def test_a_cover_of_mirax_is_no_picture(tmp_path):
    PICTURE.save(tmp_path / "case.mrxs", format="JPEG")
    assert "folder case" in refusal(tmp_path / "case.mrxs").todo


def test_directories(tmp_path, monkeypatch):
    folder = tmp_path / "case 7"
    folder.mkdir()
    monkeypatch.chdir(folder)
    for name in (".", "/", ".."):
        assert refusal(Path(name)).reason is Reason.SLIDE_UNSUPPORTED
    shutil.copy(make.shared("data", "slides", "broken", "label_only.dcm"), folder / "a.dcm")
    assert "label" in refusal(Path(".")).what
    shutil.copy(make.shared("data", "slides", "dicom", "boxes_0.dcm"), folder / "b.dcm")
    with open_slide(".") as slide:  # the label comes first in the folder, but is no slide
        assert (slide.vendor, slide.name) == ("dicom", "case 7")


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("a b\nc ü 漢.tif", "a b\nc ü 漢"), ("x.OME.TIF", "x"), ("x.Ome.tif", "x"), (".ome.tif", ".ome.tif"),
        ("..tif", "..tif"), (os.fsdecode(b"caf\xe9.tif"), "caf�"),
    ],
)  # fmt: skip
def test_names(tmp_path, file, name):
    path = make.generic(tmp_path / "plain.tif", PIXELS).rename(tmp_path / file)
    (tmp_path / "link.svs").symlink_to(path)
    with open_slide(path) as slide, open_slide(tmp_path / "link.svs") as link:
        slide.check()
        assert slide.name == name
        assert (link.name, link.slide_id) == ("link", slide.slide_id)


def test_damage_anywhere_is_a_refusal_or_a_picture_and_no_other_error(tmp_path):
    make.generic(tmp_path / "a.tif", PIXELS)
    make.svs(tmp_path / "b.svs", PIXELS)
    make.ome(tmp_path / "c.ome.tif", PIXELS)
    PICTURE.quantize(50).save(tmp_path / "d.tif")
    PICTURE.save(tmp_path / "e.png")
    PICTURE.save(tmp_path / "f.jpg")
    rng = np.random.default_rng(7)
    outcomes = set()
    for path in sorted(tmp_path.iterdir()):
        good = path.read_bytes()
        for _ in range(40):
            data = bytearray(good)
            for _ in range(int(rng.integers(1, 6))):
                near = int(rng.integers(min(len(data), 700)))
                data[near if rng.random() < 0.6 else len(data) - 1 - near] = int(rng.integers(256))
            path.write_bytes(data if rng.random() < 0.75 else data[: int(rng.integers(1, len(data)))])
            try:
                with open_slide(path, mpp=1.0) as slide:
                    slide.check()
                outcomes.add("opens")
            except HwsiError as error:
                outcomes.add(error.reason)
    assert {"opens", Reason.SLIDE_CORRUPT} <= outcomes


def test_exports_of_one_size_with_white_borders_are_told_apart(tmp_path):
    identities = set()
    for seed in range(3):
        pixels = np.full((1400, 1400, 3), 255, np.uint8)
        pixels[400:1000, 400:1000] = make.picture(600, 600, seed)
        tifffile.imwrite(tmp_path / "a.tif", pixels, photometric="rgb", metadata=None)
        with open_slide(tmp_path / "a.tif") as slide:
            identities.add(slide.slide_id)
    assert len(identities) == 3
