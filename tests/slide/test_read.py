"""``read`` gives the asked footprint: position, scale, neighbours, borders, threads, memory."""

import gc
import resource
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import slide_makers as make
from hypothesis import given, settings
from hypothesis import strategies as st

from hwsi.errors import HwsiError
from hwsi.slide import open_slide
from hwsi.slide.handles import POOL, HandlePool
from hwsi.slide.resample import Axis, resample


@pytest.fixture(scope="module")
def slide(tmp_path_factory):
    path = make.generic(tmp_path_factory.mktemp("read") / "a.tif", make.picture(700, 500), levels=3)
    with open_slide(path) as opened:
        yield opened


def ramp(x, y, w, h):
    """A level whose pixel at column i is worth 20 + i in red; row j is worth 20 + j in green."""
    out = np.zeros((h, w, 3), np.int64)
    out[..., 0] = 20 + np.arange(x, x + w)
    out[..., 1] = 20 + np.arange(y, y + h)[:, None]
    return np.clip(out, 0, 255).astype(np.uint8)


@given(start=st.floats(20, 60), scale=st.floats(0.3, 9), n=st.integers(1, 200))
@settings(max_examples=80, deadline=None)
def test_every_output_pixel_lies_where_it_should(start, scale, n):
    n = max(1, min(n, int(130 / scale)))
    got = resample(ramp, Axis.of(start, scale, n), Axis.of(start, scale, n)).astype(float)
    # a pixel's centre is half a pixel from its corner
    want = 20 + start + (np.arange(n) + 0.5) * scale - 0.5
    for error in (got[..., 0].mean(0) - want, got[..., 1].mean(1) - want):
        assert np.abs(error).max() < 1.1
        if n > 10:
            assert abs(error.mean()) <= 1  # either pass rounds a mean that ends in a half up, on a ramp always


@given(
    x0=st.integers(-60, 500),
    y0=st.integers(-60, 300),
    n=st.integers(4, 40),
    cut=st.integers(1, 39),
    mpp=st.floats(0.3, 6),
)
@settings(max_examples=60, deadline=None)
def test_neighbouring_reads_agree_with_one_larger_read(slide, x0, y0, n, cut, mpp):
    """Corners are fractions of level-0 pixels here, so that the two footprints meet exactly."""
    cut = min(cut, n - 1)
    step = cut * mpp / slide.mpp
    whole = slide.read(x0, y0, n, mpp).astype(int)
    left, right = slide.read(x0, y0, (cut, n), mpp), slide.read(x0 + step, y0, (n - cut, n), mpp)
    assert np.abs(np.concatenate([left, right], 1) - whole).max() <= 3
    top, bottom = slide.read(x0, y0, (n, cut), mpp), slide.read(x0, y0 + step, (n, n - cut), mpp)
    assert np.abs(np.concatenate([top, bottom], 0) - whole).max() <= 3


@given(x=st.integers(-80, 760), y=st.integers(-80, 560), w=st.integers(1, 150), h=st.integers(1, 150))
@settings(max_examples=40, deadline=None)
def test_own_resolution_is_untouched_and_outside_is_white(slide, x, y, w, h):
    padded = np.pad(make.picture(700, 500), ((100, 300), (100, 300), (0, 0)), constant_values=255)
    want = padded[y + 100 : y + 100 + h, x + 100 : x + 100 + w]
    np.testing.assert_array_equal(slide.read(x, y, (w, h), 0.5), want)
    np.testing.assert_array_equal(slide.read_level(0, x, y, w, h), want)


def test_whole_factor_is_the_mean_of_its_pixels(tmp_path):
    pixels = make.picture(300, 300)
    with open_slide(make.generic(tmp_path / "a.tif", pixels)) as one:
        got = one.read(30, 60, 40, 1.5).astype(float)
    want = pixels[60:180, 30:150].reshape(40, 3, 40, 3, 3).mean((1, 3))
    assert np.abs(got - want).max() <= 0.51


def test_the_level_is_the_coarsest_that_is_fine_enough(slide):
    assert [slide._level_for(f) for f in (0.5, 1, 1.5, 1.995, 2, 3.9, 4, 50)] == [0, 0, 0, 1, 1, 1, 2, 2]


def test_anisotropic_pixels_keep_both_sizes(tmp_path):
    import tifffile

    pixels = make.picture(400, 200)
    tifffile.imwrite(
        tmp_path / "a.tif", pixels, photometric="rgb", tile=(64, 64), metadata=None,
        resolution=(1e4 / 0.25, 1e4 / 0.5), resolutionunit="CENTIMETER",
    )  # fmt: skip
    with open_slide(tmp_path / "a.tif") as one:
        assert one.mpp_xy == pytest.approx((0.25, 0.5))
        assert one.thumbnail(0.5).shape == (200, 200, 3)
        want = pixels.reshape(200, 200, 2, 3).mean(2)
        assert np.abs(one.thumbnail(0.5) - want).max() <= 0.51


@pytest.mark.parametrize(("size", "mpp"), [(0, 1.0), (10, 0.0), (10, -1.0), (10, float("nan")), ((5, -1), 1.0)])
def test_what_cannot_be_read_is_refused(slide, size, mpp):
    with pytest.raises(HwsiError, match="option_invalid"):
        slide.read(0, 0, size, mpp)


def test_large_footprints_are_read_in_parts():
    asked = []

    def read(x, y, w, h):
        asked.append(w * h)
        return np.full((h, w, 3), 7, np.uint8)

    out = resample(read, Axis.of(0, 97.3, 200), Axis.of(0, 97.3, 300))
    assert out.shape == (300, 200, 3)
    assert (out == 7).all()
    assert len(asked) > 20
    assert max(asked) < 40e6


def test_threads_see_the_same_pixels(slide):
    corners = [(int(x), int(y)) for x, y in np.random.default_rng(0).integers(0, 400, (60, 2))]
    alone = [slide.read(x, y, 60, 0.9) for x, y in corners]
    with ThreadPoolExecutor(6) as pool:
        together = list(pool.map(lambda c: slide.read(*c, 60, 0.9), corners))
    for a, b in zip(alone, together, strict=True):
        np.testing.assert_array_equal(a, b)


def test_many_slides_stay_open_with_few_handles(tmp_path):
    pixels = make.picture(130, 130)
    slides = [open_slide(make.generic(tmp_path / f"{k}.tif", pixels)) for k in range(45)]
    for _ in range(2):
        for one in slides:
            np.testing.assert_array_equal(one.read_level(0, 0, 0, 130, 130), pixels)
        assert len(POOL) <= 32
    before = len(POOL)
    del one
    slides.clear()
    gc.collect()
    assert len(POOL) < before  # slides that are gone give their handles back


def test_the_pool_bounds_memory_and_drops_what_failed():
    class Fake:
        def __init__(self):
            self.nbytes, self.closed = 100, False

        def close(self):
            self.closed = True

    pool = HandlePool(max_open=5, max_bytes=250)
    made = []

    def opener():
        made.append(Fake())
        return made[-1]

    for key in range(4):
        with pool.use(key, opener) as backend:
            assert not backend.closed
    assert [m.closed for m in made] == [True, True, False, False]

    def fails():
        with pool.use(3, opener):
            raise RuntimeError("latched")

    with pytest.raises(RuntimeError):
        fails()
    assert made[3].closed
    with pool.use(3, opener) as backend:
        assert backend is made[4]
        pool.drop(3)
        assert not backend.closed  # in use
    assert made[4].closed


def test_reading_does_not_grow_memory(tmp_path):
    with open_slide(make.generic(tmp_path / "a.tif", make.picture(1200, 1200), compression="jpeg", tile=256)) as one:
        for _ in range(5):
            one.read(0, 0, 512, 1.0)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        for k in range(100):
            one.read(k, k, 512, 1.0)
            one.read_level(0, k, k, 500, 500)
        grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < 60_000  # KiB; 100 reads without letting go would be over 150 MB
