"""Where encoders compute, in which precision, and how many images at once."""

import json
from dataclasses import replace
from functools import partial
from pathlib import Path

import encoding_fakes as fakes
import numpy as np
import pytest
import torch

import hwsi.slide
from hwsi.encoders import foundation
from hwsi.encoders.patch_vits import PatchViT
from hwsi.encoders.pixels import IMAGENET, Preparation
from hwsi.encoders.vit_plain import PlainViT
from hwsi.encoders.weights import initialise
from hwsi.encoding import Timings, encode_slide, encode_to_file, tuning
from hwsi.encoding.agreement import agreement
from hwsi.encoding.device import choose_device
from hwsi.encoding.precision import in_precision
from hwsi.encoding.stack import Stack
from hwsi.errors import HwsiError
from hwsi.features import read_features
from hwsi.presets import load_preset

CAN = torch.cpu.get_capabilities()
needs_vnni = pytest.mark.skipif(
    not (CAN.get("avx512_vnni") or CAN.get("avx_vnni")), reason="this CPU has no 8-bit products"
)
SMALL = load_preset("nano").model_copy(update={"region_px": 512})
MEASURED = SMALL.model_copy(update={"patch_batch": "measured"})


@pytest.fixture(autouse=True)
def fake_rooms(monkeypatch):
    for name, fake in fakes.fake_slide_room().items():
        monkeypatch.setitem(vars(hwsi.slide), name, fake)
    monkeypatch.setattr(tuning, "_SECONDS", 0.0)


def tiny() -> PatchViT:
    """A Vision Transformer that sees patches of 256 px at 64 px."""
    return PatchViT(
        spec=replace(foundation.UNI_V1, id="tiny", dim=64),
        vit=initialise(partial(PlainViT, image=64, patch=16, dim=64, depth=2, heads=2, hidden=128), None),
        preparation=Preparation(side=64, colour=IMAGENET),
        with_mean=False,
    )


class Width(fakes.FakeRegion):
    spec = fakes._spec("region", 65, None, None)


class Wide(fakes.FakeSlide4):
    spec = fakes._spec("slide", 67, None, None)


def stack() -> Stack:
    return Stack(fakes.FakeCells(), tiny(), Width(), Wide())


def slide(width: int = 1100, height: int = 700) -> fakes.FakeSlide:
    return fakes.FakeSlide(fakes.speckled(width, height)[0])


def test_devices(monkeypatch):
    assert choose_device("cpu", small=False) == "cpu"
    assert choose_device("auto", small=True) == "cpu"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert choose_device("auto", small=False) == "cuda"
    assert choose_device("auto", small=True) == "cpu"
    for name in ("gpu", "cuda:99", "", "cuda:x"):
        with pytest.raises(HwsiError, match=r"option_invalid.*no device") as told:
            choose_device(name, small=False)
        assert "\n" not in str(told.value)


def test_patches_are_resized_ahead_and_the_vectors_are_the_same(monkeypatch):
    made, calls = stack(), []
    resize = Preparation._resize

    def noted(self, image):
        calls.append(torch.is_inference_mode_enabled())
        return resize(self, image)

    monkeypatch.setattr(Preparation, "_resize", noted)
    timings, given = Timings(), slide(512, 512)
    features = encode_slide(given, preset=SMALL, stack=made, timings=timings)
    # each once, in the threads that read ahead, which have no mode of inference
    assert calls == [False] * 4
    assert timings.seconds()["prepare"] > 0
    images = given.pixels.reshape(2, 256, 2, 256, 3).transpose(0, 2, 1, 3, 4).reshape(4, 256, 256, 3)
    expected = made.patch.encode(torch.from_numpy(images.copy())).numpy()
    assert np.abs(features.patch["tiny"] - expected).max() <= 1e-5 * np.abs(expected).max()


def test_a_measured_batch_is_kept_in_the_job(tmp_path, monkeypatch):
    path = encode_to_file(slide(), tmp_path / "a", preset=MEASURED, stack=stack())
    told = json.loads((tmp_path / "a" / "batches.json").read_text())
    assert set(told) == {"cpu float32"}
    assert told["cpu float32"]["tiny"]["batch"] in (1, 4, 16)
    assert read_features(path).provenance["batches"] == told["cpu float32"]
    # another slide of the job, another process, or one that goes on: nothing is measured again
    monkeypatch.setattr(tuning, "best_batch", lambda *a, **k: pytest.fail("measured again"))
    seen = []
    given = stack()
    monkeypatch.setattr(given.patch, "encode", lambda images: seen.append(len(images)) or torch.zeros(len(images), 64))
    told["cpu float32"]["tiny"] |= {"batch": 3, "channels_last": True}
    (tmp_path / "a" / "batches.json").write_text(json.dumps(told))
    other = fakes.FakeSlide(fakes.speckled(512, 512, seed=1)[0], name="other")
    encode_to_file(other, tmp_path / "a", preset=MEASURED, stack=given)
    assert seen == [3, 1]
    assert given.patch.vit.patch_embed.proj.weight.is_contiguous(memory_format=torch.channels_last)
    # and what is there is found, with whatever batch it was made
    fresh = stack()
    before = path.stat().st_mtime_ns
    encode_to_file(slide(), tmp_path / "a", preset=MEASURED, stack=fresh)
    assert (path.stat().st_mtime_ns, fresh.batches) == (before, {})


@pytest.mark.parametrize("text", ["{", "[]", '{"cpu float32": 3}', '{"cpu float32": {"tiny": {"batch": "x"}}}'])
def test_a_damaged_list_of_batches_is_refused_or_made_again(tmp_path, text):
    (tmp_path / "batches.json").write_text(text)
    given = stack()
    if text == "[]":
        tuning.tune(given, MEASURED, tmp_path)
        assert given.batches
        return
    with pytest.raises(HwsiError, match=r"option_invalid.*batches\.json.*remove that file"):
        tuning.tune(given, MEASURED, tmp_path)


def test_fixed_batches_are_not_measured(tmp_path):
    given = stack()
    tuning.tune(given, SMALL, tmp_path / "job")
    assert not given.batches
    assert not (tmp_path / "job").exists()
    assert given.batch_of(given.patch, SMALL) == 32


def test_a_batch_that_does_not_fit_is_told(monkeypatch):
    given = stack()

    def full(images):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate much")

    monkeypatch.setattr(given.patch, "encode", full)
    with pytest.raises(HwsiError, match=r"32 patches at once do not fit.*cpu with tiny.*smaller patch_batch"):
        encode_slide(slide(), preset=SMALL, stack=given)


@needs_vnni
def test_int8_is_another_file_and_near(tmp_path: Path):
    light = SMALL.model_copy(update={"precision": "int8"})
    exact = stack()
    quick = in_precision(exact, light)
    assert in_precision(quick, light).patch is quick.patch
    assert in_precision(exact, SMALL) is exact
    near = agreement(exact, quick, slide(), light)
    assert set(near) == {"tiny"}
    assert 0.99 < near["tiny"] < 1 - 1e-7
    assert agreement(exact, exact, slide(), SMALL) == {"tiny": pytest.approx(1, abs=1e-6)}
    a = encode_slide(slide(), preset=SMALL, stack=exact)
    b = encode_slide(slide(), preset=light, stack=exact)
    assert a.provenance["key"] != b.provenance["key"]
    assert b.provenance["preset"]["precision"] == "int8"
    assert not np.array_equal(a.patch["tiny"], b.patch["tiny"])
    assert np.array_equal(b.patch["tiny"], encode_slide(slide(), preset=light, stack=quick).patch["tiny"])


def test_bfloat16_is_for_gpus():
    with pytest.raises(HwsiError, match=r"option_invalid.*bfloat16"):
        in_precision(stack(), SMALL.model_copy(update={"precision": "bfloat16"}))


class PatchesOfSlide:
    """A slide encoder that reads patches: their number, and the middle of where they lie."""

    def __init__(self, reads: str = "patch-fake", side: int | None = 256):
        self.spec = replace(fakes._spec("slide", 3, side, 0.5), reads=reads)

    def encode(self, regions, mask, centre_mm):
        assert regions.shape[-1] == 6
        assert mask.all()
        count = torch.full((1, 1), float(regions.shape[1]))
        return torch.cat([count, centre_mm.mean(1)], 1)


def test_a_slide_encoder_may_read_patches():
    given = replace(fakes.fake_stack(), slide=PatchesOfSlide())
    features = encode_slide(slide(), preset=SMALL, stack=given)
    tree = features.hierarchy
    seen = ~tree.patches.background
    middle = tree.centre_mm(tree.patches.xy[seen], tree.patches.size0).mean(0)
    assert features.slide["slide-fake"] == pytest.approx([seen.sum(), *middle], rel=1e-5)
    with pytest.raises(HwsiError, match=r"option_invalid.*reads patches of conch_v15 of 512 px, not of patch-fake"):
        replace(given, slide=PatchesOfSlide("conch_v15", 512)).check(SMALL)
    with pytest.raises(HwsiError, match=r"of patch-fake of 512 px, not of patch-fake of 256 px"):
        replace(given, slide=PatchesOfSlide(side=512)).check(SMALL)


def test_each_worker_has_one_of_several_gpus(monkeypatch):
    from hwsi.encoding.cohort import one
    from hwsi.encoding.cohort.job import Job
    from hwsi.encoding.device import devices_of
    from hwsi.presets import load_preset

    monkeypatch.setattr("torch.cuda.device_count", lambda: 3)
    assert devices_of("auto", small=False) == devices_of("cuda", small=True) == ("cuda:0", "cuda:1", "cuda:2")
    assert devices_of("auto", small=True) == ("auto",)
    assert devices_of("cuda:2, cuda:0", small=False) == ("cuda:2", "cuda:0")
    loaded = []
    monkeypatch.setattr(one, "load_encoders", lambda job, device: loaded.append(device))
    monkeypatch.setattr(one, "is_small", lambda preset: False)
    for worker in range(5):
        one._loaded(Job("job", load_preset("nano"), "auto"), worker)
    assert loaded == ["cuda:0", "cuda:1", "cuda:2", "cuda:0", "cuda:1"]
    monkeypatch.setattr("torch.cuda.device_count", lambda: 1)
    assert devices_of("auto", small=False) == ("auto",)
