"""Slides on disk open in OpenSlide with the right scale, or are not there at all."""

from pathlib import Path

import numpy as np
import openslide
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hwsi.errors import HwsiError, Reason
from hwsi.phantom.write import write_slide


def picture(height: int = 1100, width: int = 1400) -> np.ndarray:
    y, x = np.mgrid[0:height, 0:width]
    return np.stack([x * 255 // width, y * 255 // height, np.full_like(x, 128)], -1).astype(np.uint8)


def test_svs(tmp_path: Path) -> None:
    image = picture(4200, 4600)
    path = write_slide(tmp_path / "a.svs", image, quality=85, description="seed 3 | odd = text")
    slide = openslide.OpenSlide(path)
    assert slide.properties["openslide.vendor"] == "aperio"
    assert float(slide.properties["openslide.mpp-x"]) == 0.5
    assert slide.properties["aperio.AppMag"] == "20"
    assert "PHANTOM" in slide.properties["aperio.ScanScope ID"]
    assert slide.dimensions == (4600, 4200)
    assert slide.level_count == 3
    assert slide.level_downsamples[1] == pytest.approx(4, rel=1e-2)
    assert slide.level_downsamples[2] == pytest.approx(16, rel=1e-2)
    assert set(slide.associated_images) == {"thumbnail", "label", "macro"}
    read = np.asarray(slide.read_region((1000, 2000), 0, (64, 64)).convert("RGB"))
    assert np.abs(read.astype(int) - image[2000:2064, 1000:1064]).mean() < 4


@pytest.mark.parametrize("suffix", [".tif", ".tiff"])
def test_tiff(tmp_path: Path, suffix: str) -> None:
    path = write_slide(tmp_path / f"a{suffix}", picture(), mpp=0.25)
    slide = openslide.OpenSlide(path)
    assert slide.properties["openslide.vendor"] == "generic-tiff"
    assert float(slide.properties["openslide.mpp-x"]) == pytest.approx(0.25)
    assert slide.level_count == 3


@settings(max_examples=12, deadline=None)
@given(height=st.integers(1, 900), width=st.integers(1, 900), suffix=st.sampled_from([".svs", ".tiff"]))
def test_any_size(tmp_path_factory: pytest.TempPathFactory, height: int, width: int, suffix: str) -> None:
    path = tmp_path_factory.mktemp("size") / f"a{suffix}"
    write_slide(path, picture(height, width))
    assert openslide.OpenSlide(path).dimensions == (width, height)


def test_same_bytes(tmp_path: Path) -> None:
    first = write_slide(tmp_path / "a.svs", picture(), description="x").read_bytes()
    assert first == write_slide(tmp_path / "b.svs", picture(), description="x").read_bytes()


def test_nothing_half_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import tifffile

    def fail(*args: object, **options: object) -> None:
        raise OSError(28, "No space left on device")

    target = write_slide(tmp_path / "a.svs", picture())
    before = target.read_bytes()
    monkeypatch.setattr(tifffile.TiffWriter, "write", fail)
    with pytest.raises(HwsiError) as caught:
        write_slide(target, picture())
    assert caught.value.reason is Reason.DISK_FULL
    assert target.read_bytes() == before
    assert list(tmp_path.iterdir()) == [target]


def test_refused(tmp_path: Path) -> None:
    with pytest.raises(HwsiError) as caught:
        write_slide(tmp_path / "a.png", picture())
    assert caught.value.reason is Reason.OPTION_INVALID
    with pytest.raises(HwsiError) as caught:
        write_slide(tmp_path / "nowhere" / "a.svs", picture())
    assert caught.value.reason is Reason.OUTPUT_UNWRITABLE
