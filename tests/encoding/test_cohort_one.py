"""One slide: files, errors of every kind, oddities, copies; with encoders that cost nothing."""

import errno
import os

import cv2
import encoding_fakes as fakes
import numpy as np
import pytest

from hwsi.encoding.cohort import one
from hwsi.encoding.cohort.job import Job, Row
from hwsi.encoding.cohort.local import local_copy
from hwsi.errors import HwsiError
from hwsi.features import check_features, read_features
from hwsi.presets import load_preset


@pytest.fixture(autouse=True)
def _cheap(monkeypatch):
    one.load_encoders.cache_clear()
    monkeypatch.setattr("hwsi.encoding.stack.load_stack", lambda preset, device="auto", **_: fakes.fake_stack())
    monkeypatch.setattr("hwsi.encoding.stack.Stack.check", lambda self, preset: None)
    yield
    one.load_encoders.cache_clear()


@pytest.fixture
def job(tmp_path):
    return Job(tmp_path / "job", load_preset("nano").model_copy(update={"region_px": 512}), "cpu")


@pytest.fixture
def slide(tmp_path):
    import tifffile

    pixels, _ = fakes.speckled(1100, 1100)
    pixels[:60] = 245
    path = tmp_path / "slide.tiff"
    options = {"tile": (256, 256), "photometric": "rgb", "resolutionunit": "CENTIMETER"}
    tifffile.imwrite(path, pixels, resolution=(20_000, 20_000), **options)
    return path


def test_a_slide_becomes_a_file_and_numbers(job, slide):
    seen = []
    outcome = one.encode_one(job, Row(1, str(slide)), progress=lambda *step: seen.append(step))
    assert outcome.state == "done"
    assert check_features(outcome.features)["slide_name"] == "slide"
    assert outcome.written_bytes == outcome.features.stat().st_size
    assert outcome.tissue_mm2 == pytest.approx(0.128**2 * next(s[2] for s in seen if s[0] == "patches"))
    assert outcome.seconds > 0
    # found whole, it tells nothing of speed
    assert one.encode_one(job, Row(1, str(slide))).tissue_mm2 is None


def test_what_is_odd_comes_with_a_picture(job, slide):
    outcome = one.encode_one(job, Row(1, str(slide)))
    (odd,) = [line for line in outcome.odd if "mm² of tissue" in line or "focus" in line] or [""]
    assert bool(odd) == (outcome.picture is not None)
    if outcome.picture:
        assert cv2.imread(str(outcome.picture)).shape[1] <= 330


def test_errors_are_outcomes(job, slide, tmp_path):
    blank = tmp_path / "blank.png"
    cv2.imwrite(str(blank), np.full((1200, 1200, 3), 245, np.uint8))
    outcome = one.encode_one(job, Row(1, str(blank), mpp=0.5))
    assert (outcome.state, outcome.reason) == ("failed", "no_tissue")
    assert " -> " in outcome.message
    assert outcome.picture.is_file()
    assert one.encode_one(job, Row(1, str(tmp_path / "gone.svs"))).reason == "slide_missing"


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (MemoryError("no room"), "out_of_memory"),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"), "out_of_memory"),
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), "disk_full"),
        (ValueError("a bug"), "internal_error"),
    ],
)
def test_what_the_system_says_becomes_a_reason(job, slide, monkeypatch, error, reason):
    def broken(*args, **kwargs):
        raise error

    monkeypatch.setattr(one, "encode_to_file", broken)
    outcome = one.encode_one(job, Row(1, str(slide)))
    assert outcome.reason == reason
    assert bool(outcome.trace) == (reason == "internal_error")


@pytest.mark.parametrize("fails", [False, True])
def test_a_slide_that_changes_while_it_is_read_leaves_no_file(job, slide, monkeypatch, fails):
    encode = one.encode_to_file

    def and_change(*args, **kwargs):
        os.utime(slide, ns=(1, 1))
        if fails:
            raise HwsiError(one.Reason.SLIDE_CORRUPT, "cut short", "copy it again")
        return encode(*args, **kwargs)

    monkeypatch.setattr(one, "encode_to_file", and_change)
    outcome = one.encode_one(job, Row(1, str(slide)))
    assert outcome.reason == "slide_changed"
    assert not (job.out / "features" / "slide.h5").exists()


def test_copies_give_the_same_bytes_and_leave_nothing(job, slide, tmp_path):
    direct = one.encode_one(job, Row(1, str(slide))).features.read_bytes()
    cache = tmp_path / "cache"
    dead = cache / "hwsi-slide-dead"
    dead.mkdir(parents=True)
    (dead / ".lock").touch()
    copied = Job(tmp_path / "other", job.preset, "cpu", cache=cache)
    assert one.encode_one(copied, Row(1, str(slide))).features.read_bytes() == direct
    assert list(cache.iterdir()) == []


def test_a_url_is_fetched(slide, tmp_path):
    fsspec = pytest.importorskip("fsspec")
    fsspec.filesystem("memory").pipe_file("/bucket/far.tiff", slide.read_bytes())
    with local_copy("memory://bucket/far.tiff", tmp_path) as path:
        assert path.name == "far.tiff"
        assert path.read_bytes() == slide.read_bytes()
    assert not path.exists()
    with pytest.raises(HwsiError, match=r"slide_missing.*cannot be fetched"), local_copy("memory://b/no.tiff", None):
        pass
    with pytest.raises(HwsiError, match=r"option_invalid|extra_missing"), local_copy("nonsense://b/no.tiff", None):
        pass


def test_features_and_cells_beside_them(job, slide):
    from dataclasses import replace

    path = one.make_features(replace(job, cells_geojson=True), Row(0, str(slide)))
    assert len(read_features(path).hierarchy.cells)
    assert one.cells_file(job, path).is_file()


def test_settings_come_back(tmp_path):
    job = Job(tmp_path, load_preset("nano"), cache=tmp_path / "c", cells_geojson=True)
    assert Job.from_json(tmp_path, job.to_json()) == job
    for broken in ("", "{}", "[]", '{"cache": null, "preset": {}}'):
        with pytest.raises(HwsiError, match="job_corrupt"):
            Job.from_json(tmp_path, broken)


def test_two_slides_at_a_time_give_the_same_bytes(job, slide, tmp_path):
    from hwsi.benchmarks.encode_rates import run_lane

    second = tmp_path / "second.tiff"
    second.write_bytes(slide.read_bytes())
    alone = [one.encode_one(job, Row(i, str(path))).features for i, path in enumerate((slide, second))]
    lap = run_lane(Job(tmp_path / "other", job.preset, "cpu"), [slide, second])
    assert [o.features.read_bytes() for o in lap.outcomes] == [path.read_bytes() for path in alone]
    assert 0 < lap.model_share <= 1
    # waiting for the other slide's turn is not a slide's own time
    assert sum(o.seconds for o in lap.outcomes) < 2 * lap.timings.wall
    (tmp_path / "broken.tiff").write_bytes(b"none")
    with pytest.raises(HwsiError, match="slide_"):
        run_lane(Job(tmp_path / "third", job.preset, "cpu"), [slide, tmp_path / "broken.tiff"])
