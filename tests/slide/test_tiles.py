"""The direct path gives OpenSlide's pixels, says why where it is not used, and notices when it would differ."""

import numpy as np
import openslide
import pytest
import slide_makers as make
import tifffile

from hwsi.slide import open_slide
from hwsi.slide.opening import open_backend
from hwsi.slide.tiles import TiledPage


def assert_equal_to_openslide(path, *, direct=True):
    """Aligned, unaligned, border and large rectangles at every level that can be asked without fractions."""
    with open_slide(path) as slide, openslide.OpenSlide(str(path)) as other:
        for k, level in enumerate(slide.levels):
            down = other.level_downsamples[k]
            w, h = level.width, level.height
            for x, y, n in [
                (0, 0, 64),
                (64, 64, 64),
                (128, 64, 128),
                (0, 0, max(w, h)),
                (33, 47, 90),
                (w - 20, h - 30, 64),
            ]:
                x, y = max(0, x), max(0, y)
                if not (x * down).is_integer() or not (y * down).is_integer():
                    continue
                theirs = np.asarray(other.read_region((int(x * down), int(y * down)), k, (n, n)))
                inside = theirs[: max(0, h - y), : max(0, w - x), :3]
                ours = slide.read_level(k, x, y, n, n)
                np.testing.assert_array_equal(ours[: inside.shape[0], : inside.shape[1]], inside)
                assert (ours[inside.shape[0] :] == 255).all()
            if direct:
                assert slide.direct[k] == ""


@pytest.mark.parametrize("name", ["CMU-1-Small-Region.svs", "cmu1_small_pyramid.tiff", "boxes.tiff", "small.svs"])
def test_real_slides(name):
    assert_equal_to_openslide(make.shared("data", "slides", name))


def test_ome_level_zero_is_openslides_too():
    path = make.shared("data", "slides", "cmu1_small_pyramid.ome.tif")
    with open_slide(path) as slide, openslide.OpenSlide(str(path)) as other:
        theirs = np.asarray(other.read_region((512, 700), 0, (700, 600)))[..., :3]
        np.testing.assert_array_equal(slide.read_level(0, 512, 700, 700, 600), theirs)


@pytest.mark.parametrize(
    "options",
    [
        {"compression": "jpeg"},
        {"compression": "jpeg", "compressionargs": {"level": 75, "subsampling": "444"}},
        {"compression": "jpeg", "compressionargs": {"level": 75, "subsampling": "422"}},
        {"compression": "jpeg", "compressionargs": {"level": 90, "outcolorspace": "rgb"}},
        {"compression": "deflate"},
        {"compression": "deflate", "predictor": True},
        {"compression": "lzw"},
        {"compression": None},
        {"compression": "aperio_jp2000_rgb"},
    ],
    ids=lambda o: "-".join(str(v) for v in o.values()),
)
@pytest.mark.parametrize("kind", ["generic", "svs"])
def test_written_slides(tmp_path, kind, options):
    if kind == "generic" and options["compression"] == "aperio_jp2000_rgb":
        pytest.skip("OpenSlide reads JPEG 2000 in Aperio's files only")
    pixels = make.picture(512, 256)
    path = {"generic": make.generic, "svs": make.svs}[kind](tmp_path / "a.tif", pixels, levels=2, **options)
    assert_equal_to_openslide(path)


def test_a_level_of_odd_size_gives_the_files_own_pixels(tmp_path):
    """There OpenSlide asks for fractions and blurs; the direct path does not."""
    pixels = make.picture(515, 301)
    with open_slide(make.generic(tmp_path / "a.tif", pixels, levels=3)) as slide:
        np.testing.assert_array_equal(slide.read_level(1, 64, 64, 128, 64), make.halve(pixels)[64:128, 64:192])
        assert slide.direct[1] == ""
        assert [level.downsample for level in slide.levels] == [1, 2, 4]


def test_a_difference_is_noticed(tmp_path, monkeypatch):
    path = make.generic(tmp_path / "a.tif", make.picture(200, 200))
    honest = TiledPage.read
    monkeypatch.setattr(TiledPage, "read", lambda *args: honest(*args) ^ np.uint8(1))
    backend = open_backend(path)
    np.testing.assert_array_equal(backend.read(0, 0, 0, 200, 200), make.picture(200, 200))
    assert "differs from OpenSlide by up to 1" in backend.direct[0]
    backend.close()


def test_other_formats_say_why_not():
    with open_slide(make.shared("data", "slides", "hamamatsu-test3-DAPI-2-387.ndpi")) as slide:
        slide.read_level(0, 0, 0, 64, 64)
        assert "hamamatsu" in slide.direct[0]


def test_a_whole_tile_is_its_readers_own(tmp_path):
    """What was not compressed is a view of the file's bytes; the caller may write to it all the same."""
    pixels = np.random.default_rng(0).integers(0, 255, (512, 512, 3), np.uint8)
    tifffile.imwrite(tmp_path / "plain.tif", pixels, tile=(256, 256), photometric="rgb")
    with open_slide(tmp_path / "plain.tif", mpp=0.5) as slide:
        tile = slide.read_level(0, 256, 0, 256, 256)
        assert np.array_equal(tile, pixels[:256, 256:])
        tile[:] = 0
        assert np.array_equal(slide.read_level(0, 256, 0, 256, 256), pixels[:256, 256:])
