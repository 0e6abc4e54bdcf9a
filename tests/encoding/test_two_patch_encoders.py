"""A region encoder that reads vectors of another patch encoder than the language model sees."""

from dataclasses import replace

import encoding_fakes as fakes
import numpy as np
import pytest
import torch

import hwsi.slide
from hwsi.encoders import registry
from hwsi.encoding import encode_slide, encode_to_file
from hwsi.encoding.journal import Journal
from hwsi.encoding.stack import Stack, choose, load_stack
from hwsi.errors import HwsiError
from hwsi.features import read_features
from hwsi.features.slide_features import CellBlock
from hwsi.hierarchy.tree import Cells
from hwsi.presets import load_preset

SMALL = load_preset("nano").model_copy(update={"region_px": 512})


@pytest.fixture(autouse=True)
def fake_rooms(monkeypatch):
    for name, fake in fakes.fake_slide_room().items():
        monkeypatch.setitem(vars(hwsi.slide), name, fake)


class SecondPatch:
    """The darkest red, green and blue of a patch: pixels that the mean does not give away."""

    def __init__(self):
        self.spec = replace(fakes._spec("patch", 3, 256, 0.5), id="second-fake")
        self.images = 0

    def encode(self, images):
        self.images += len(images)
        assert torch.is_inference_mode_enabled()
        return images.flatten(1, 2).amin(1).float()


class RegionOfSecond:
    spec = replace(fakes._spec("region", 4, None, None), reads="second-fake")

    def encode(self, patches, mask, row_col):
        weights = mask[..., None].float()
        mean = (patches @ torch.eye(3) * weights).sum(1) / weights.sum(1)
        return torch.cat([mean, weights.sum(1)], 1)


class SlideOfFour(fakes.FakeSlide4):
    spec = fakes._spec("slide", 6, None, None)


def two() -> Stack:
    return Stack(
        fakes.FakeCells(), fakes.FakePatch(), RegionOfSecond(), SlideOfFour(),
        {"patch-fake": "a" * 64, "second-fake": "b" * 64}, region_patch=SecondPatch(),
    )  # fmt: skip


def test_both_stand_in_the_file_and_the_region_is_made_of_the_second(tmp_path):
    pixels, _ = fakes.speckled(1100, 700)
    slide, stack = fakes.FakeSlide(pixels), two()
    features = encode_slide(slide, preset=SMALL, stack=stack, out=tmp_path)
    tree = features.hierarchy
    assert set(features.patch) == {"patch-fake", "second-fake"}
    assert set(features.region) == {"region-fake"}
    padded = np.full((1536, 1536, 3), 255, np.uint8)
    padded[:700, :1100] = pixels
    for i, (x, y) in enumerate(tree.patches.xy):
        window = padded[y : y + 256, x : x + 256]
        expected = (0, 0) if tree.patches.background[i] else (window.mean((0, 1)), window.min((0, 1)))
        assert features.patch["patch-fake"][i, :3] == pytest.approx(expected[0], abs=1e-3)
        assert features.patch["second-fake"][i] == pytest.approx(expected[1])
    for r in range(len(tree.regions)):
        inside = (tree.patches.region == r) & ~tree.patches.background
        assert features.region["region-fake"][r, :3] == pytest.approx(
            features.patch["second-fake"][inside].mean(0), rel=1e-5
        )
    # the same pixels: read once, and each patch seen once by each
    alone = fakes.FakeSlide(pixels)
    encode_slide(alone, preset=SMALL, stack=fakes.fake_stack())
    assert slide.reads == alone.reads
    assert stack.patch.images == stack.region_patch.images == (~tree.patches.background).sum()
    told = features.provenance["encoders"]
    assert (told["second-fake"]["weights_sha256"], told["second-fake"]["dim"]) == ("b" * 64, 3)
    assert list(told) == sorted(["cell-fake", "patch-fake", "second-fake", "region-fake", "slide-fake"])


def test_a_run_that_stopped_goes_on_to_the_same_bytes(tmp_path, monkeypatch):
    pixels, _ = fakes.speckled(512 * 3, 512)
    put = Journal.put

    class Stop(Exception):
        pass

    def put_and_stop(self, region, *rest):
        put(self, region, *rest)
        if region == 1:
            raise Stop

    monkeypatch.setattr(Journal, "put", put_and_stop)
    with pytest.raises(Stop):
        encode_to_file(fakes.FakeSlide(pixels), tmp_path / "a", preset=SMALL, stack=two())
    monkeypatch.setattr(Journal, "put", put)
    again = two()
    path = encode_to_file(fakes.FakeSlide(pixels), tmp_path / "a", preset=SMALL, stack=again)
    assert again.patch.images == again.region_patch.images == 4
    whole = encode_to_file(fakes.FakeSlide(pixels), tmp_path / "b", preset=SMALL, stack=two())
    assert path.read_bytes() == whole.read_bytes()


def test_a_journal_counts_both(tmp_path):
    block = CellBlock(Cells.none(), {"cell-fake": np.zeros((0, 2), np.float16)})
    four = np.arange(12, dtype=np.float32).reshape(4, 3)
    with Journal(tmp_path / "j", "key") as journal:
        journal.put(0, four, block, four + 1)
        journal.put(1, four, block, four[:3])
        journal.put(2, four, block)
        assert [journal.count(r, 4) for r in range(4)] == [0, None, 0, None]
        assert np.array_equal(journal.patch(0), four)
        assert np.array_equal(journal.read(0), four + 1)
        journal.remove()


def test_who_answers_changes_no_features(tmp_path):
    slide = fakes.FakeSlide(fakes.speckled(512, 512)[0])
    path = encode_to_file(slide, tmp_path, preset=SMALL, stack=fakes.fake_stack())
    before = path.stat().st_mtime_ns
    other = SMALL.model_copy(update={"language_model": "Qwen/Qwen2.5-7B-Instruct"})
    again = fakes.fake_stack()
    assert encode_to_file(slide, tmp_path, preset=other, stack=again) == path
    assert (again.patch.images, path.stat().st_mtime_ns) == (0, before)
    assert "language_model" not in read_features(path).provenance["preset"]


def test_encoders_that_resize_need_only_the_resolution():
    stack = two()
    for encoder in (stack.patch, stack.region_patch):
        own = encoder.spec
        encoder.spec = replace(own, input_px=448)
        with pytest.raises(HwsiError, match=r"option_invalid.*448 px"):
            stack.check(SMALL)
        encoder.preparation = "resizes"
        stack.check(SMALL)
        encoder.spec = replace(own, mpp=0.25)
        with pytest.raises(HwsiError, match=r"option_invalid.*0\.25 um/px"):
            stack.check(SMALL)
        encoder.spec = own


def test_encoders_that_do_not_fit_are_refused(tmp_path):
    good = two()
    alone = replace(good, region_patch=None)
    with pytest.raises(HwsiError, match=r"option_invalid.*reads vectors of second-fake, not of patch-fake"):
        alone.check(SMALL)
    # another width below, told by trying it
    wide = two()
    wide.region_patch.spec = replace(wide.region_patch.spec, dim=5)
    with pytest.raises(HwsiError, match=r"option_invalid.*region-fake does not read vectors of 5 numbers"):
        wide.check(SMALL)
    # and another one above than the card says
    with pytest.raises(HwsiError, match=r"option_invalid.*slide-fake makes 6 numbers of vectors of 4.*says 9"):
        replace(good, slide=fakes.FakeSlide4()).check(SMALL)
    slide = fakes.FakeSlide(fakes.speckled(512, 512)[0])
    with pytest.raises(HwsiError, match="option_invalid"):
        encode_to_file(slide, tmp_path / "job", preset=SMALL, stack=alone)
    assert not slide.reads
    assert not (tmp_path / "job").exists()


def test_means_are_as_wide_as_what_they_read():
    built = {s: registry.get(f"{s}-nano").build(weights=None) for s in ("cell", "patch", "region")}
    Stack(**built, slide=registry.get("slide-mean").build(weights=None)).check(load_preset("nano"))
    means = {s: registry.get(f"{s}-mean").build(weights=None) for s in ("region", "slide")}
    replace(two(), **means).check(SMALL)
    open_ = choose(load_preset("open"))
    assert (open_.patch.dim, open_.region.dim, open_.slide.dim) == (3072, 3072, 3072)


@pytest.fixture(scope="module")
def hipt():
    """The two published architectures of HIPT, with random weights."""
    return registry.get("hipt_vit256").build(weights=None), registry.get("hipt_vit4k").build(weights=None)


def test_vit4k_reads_vit256_beside_another_encoder(hipt, tmp_path):
    vit256, vit4k = hipt
    slide = fakes.FakeSlide(fakes.speckled(512, 512)[0])
    mean = registry.get("slide-mean").build(weights=None)
    stack = Stack(fakes.FakeCells(), fakes.FakePatch(), vit4k, mean, region_patch=vit256)
    features = encode_slide(slide, preset=SMALL, stack=stack, out=tmp_path)
    assert features.patch["hipt_vit256"].shape == (4, 384)
    images = slide.pixels.reshape(2, 256, 2, 256, 3).transpose(0, 2, 1, 3, 4).reshape(4, 256, 256, 3)
    vectors = vit256.encode(torch.from_numpy(images.copy()))
    expected = vit4k.encode(
        vectors[None], torch.ones(1, 4, dtype=torch.bool), torch.cartesian_prod(*[torch.arange(2)] * 2)[None]
    )
    region = features.region["hipt_vit4k"]
    assert np.abs(region - expected.numpy()).max() <= 1e-4 * np.abs(expected.numpy()).max()
    assert np.array_equal(features.slide["slide-mean"], region[0])
    with pytest.raises(HwsiError, match=r"option_invalid.*not of patch-fake"):
        replace(stack, region_patch=None).check(SMALL)


@pytest.fixture
def _nothing_here(monkeypatch, tmp_path):
    monkeypatch.setenv("HWSI_WEIGHTS", str(tmp_path / "weights.yaml"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("socket.socket.connect", lambda *a: pytest.fail("the network was asked"))


@pytest.mark.usefixtures("_nothing_here")
def test_all_that_is_missing_is_told_before_anything_is_loaded(monkeypatch, tmp_path):
    monkeypatch.setattr(registry.EncoderSpec, "build", lambda *a, **k: pytest.fail("something was loaded"))
    paper = load_preset("paper")
    with pytest.raises(HwsiError) as told:
        load_stack(paper)
    line = str(told.value)
    assert line.startswith("[weights_missing]")
    assert "\n" not in line
    for part in (
        "cellvit_256",
        "conch_v1",
        "hipt_vit256",
        "hipt_vit4k",
        "MahmoodLab/conch",
        "weights.yaml",
        "HWSI_WEIGHTS_",
    ):
        assert part in line
    # one alone is told with licence and revision
    for spec in choose(paper).all:
        if spec.has_weights and spec.id != "conch_v1":
            (tmp_path / spec.id).touch()
            monkeypatch.setenv(f"HWSI_WEIGHTS_{spec.id.upper()}", str(tmp_path / spec.id))
    with pytest.raises(HwsiError, match=r"weights_missing.*conch_v1 are not.*CC-BY-NC-ND-4\.0.*HWSI_WEIGHTS_CONCH_V1"):
        load_stack(paper)


def test_the_paper_stack_encodes():
    """CONCH and HIPT with random weights on one patch: all parts fit, whatever they compute."""
    paper = load_preset("paper").model_copy(update={"region_px": 256})
    chosen = choose(paper)
    built = {name: getattr(chosen, name).build(weights=None) for name in ("patch", "region", "slide", "region_patch")}
    stack = Stack(fakes.FakeCells(0.25), **built)
    features = encode_slide(fakes.FakeSlide(fakes.speckled(256, 256)[0]), preset=paper, stack=stack)
    widths = {e: v.shape[-1] for s in ("patch", "region", "slide") for e, v in getattr(features, s).items()}
    assert widths == {"conch_v1": 512, "hipt_vit256": 384, "hipt_vit4k": 192, "slide-mean": 192}
    assert np.linalg.norm(features.patch["conch_v1"], axis=1) == pytest.approx(1, rel=1e-5)
