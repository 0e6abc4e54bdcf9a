"""Every preset of the package loads, and names encoders that there are; wrong ones say what is wrong."""

import pytest

from hwsi.encoders import registry
from hwsi.encoding.stack import Stack, choose
from hwsi.errors import HwsiError
from hwsi.model import zoo
from hwsi.presets import Preset, available, load_preset


@pytest.mark.parametrize("name", available())
def test_presets_load_and_fit_their_encoders(name):
    preset = load_preset(name)
    assert preset.name == name
    for scale in ("cell", "patch", "region", "slide", "text", "fusion"):
        encoder = getattr(preset.encoders, scale)
        assert not encoder or registry.get(encoder).scale == scale
    assert preset.precision == "float32"
    for spec in (e for e in choose(preset).all if e.scale == "patch"):
        assert spec.mpp == preset.read_mpp
    model = zoo.get(preset.language_model)
    assert model is not None
    with pytest.raises(ValueError, match="frozen"):
        preset.region_px = 1


def test_paper_and_released_are_as_published():
    paper, released = load_preset("paper"), load_preset("released")
    # the same encoders; the release's model does not fuse the cells of a patch itself
    apart = {"name": True, "language_model": True, "encoders": {"fusion"}}
    assert paper.model_dump(exclude=apart) == released.model_dump(exclude=apart)
    assert (paper.encoders.fusion, released.encoders.fusion) == ("", "ccaf_dino")
    assert (paper.region_px, paper.patch_px, paper.read_mpp, paper.kept_patches) == (4096, 256, 0.5, 16)
    assert [spec.dim for spec in choose(paper).all] == [384, 512, 384, 192, 192]
    assert choose(paper).region_patch == registry.get("hipt_vit256")
    assert (paper.language_model, released.language_model) == ("Qwen/Qwen2.5-7B-Instruct", "Bastech/MLLM-HWSI")


def test_open_needs_no_permission_and_may_be_sold():
    preset = load_preset("open")
    cards = [*choose(preset).all, zoo.get(preset.language_model)]
    assert all(card.commercial and not card.gated for card in cards)
    # what its comment says of the others: no other public patch encoder, nor any text tower, is both
    known = [s for s in registry.available() if s.builder.startswith("hwsi.")]  # other tests register their own
    free = {s.id for s in known if s.scale in ("patch", "text") and s.commercial and not s.gated}
    assert free == {"patch-nano", "text-nano", "midnight12k"}
    # and it does not rest on weights that know drawn tissue only
    assert not any(card.weights for card in choose(preset).all)


def test_embedded_encoders_fit_one_another():
    preset = load_preset("nano")
    chosen = choose(preset)
    built = {s: getattr(chosen, s).build(weights=None) for s in ("cell", "patch", "region", "slide")}
    Stack(**built).check(preset)
    with pytest.raises(HwsiError, match=r"option_invalid.*region-nano does not read"):
        Stack(**built | {"cell": registry.get("cellvit_256").build(weights=None)}).check(preset)


def test_nano_is_as_documented():
    nano = load_preset("nano")
    assert (nano.region_px, nano.patch_px, nano.read_mpp, nano.kept_patches) == (2048, 256, 0.5, 16)
    assert (nano.max_mpp, nano.language_model) == (1.0, "nano")
    patch = registry.get(nano.encoders.patch)
    assert patch.input_px == nano.patch_px
    assert choose(nano).region_patch is None


@pytest.mark.parametrize("name", ["", "nan", "../nano", "nano/", "missing.yaml", "\0", "x" * 5000])
def test_unknown_presets_are_refused(name):
    with pytest.raises(HwsiError, match=r"preset_unknown.*nano"):
        load_preset(name)


@pytest.mark.parametrize(
    "change", [{"region_px": 1000}, {"patch_px": 0}, {"more": 1}, {"min_tissue": 2}, {"encoders": {"cell": "a"}}]
)
def test_wrong_presets_are_refused(tmp_path, change):
    import yaml

    path = tmp_path / "own.yaml"
    plain = load_preset("nano").model_dump(mode="json")
    path.write_text(yaml.safe_dump(plain))
    assert load_preset(path) == load_preset(str(path)) == Preset.model_validate(plain)
    path.write_text(yaml.safe_dump(plain | change))
    with pytest.raises(HwsiError, match=r"option_invalid.*own\.yaml"):
        load_preset(path)


@pytest.mark.parametrize("text", ["", "a: [", "- 1", "\x00"])
def test_files_that_are_no_preset_are_refused(tmp_path, text):
    path = tmp_path / "own.yaml"
    path.write_text(text)
    with pytest.raises(HwsiError, match="option_invalid"):
        load_preset(path)


def test_a_preset_that_may_not_be_read_is_refused(tmp_path, monkeypatch):
    path = tmp_path / "own.yaml"
    path.touch()
    monkeypatch.setattr(
        type(path), "read_text", lambda self, encoding: (_ for _ in ()).throw(PermissionError(13, "no"))
    )
    with pytest.raises(HwsiError, match="option_invalid"):
        load_preset(path)
