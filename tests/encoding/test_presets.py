"""Every preset of the package loads, and names encoders that there are; wrong ones say what is wrong."""

import pytest

from hwsi.encoders import registry
from hwsi.errors import HwsiError
from hwsi.presets import Preset, available, load_preset


@pytest.mark.parametrize("name", available())
def test_presets_load_and_fit_their_encoders(name):
    preset = load_preset(name)
    assert preset.name == name
    for scale in ("cell", "patch", "region", "slide", "text"):
        assert registry.get(getattr(preset.encoders, scale)).scale == scale
    patch = registry.get(preset.encoders.patch)
    assert (patch.input_px, patch.mpp) == (preset.patch_px, preset.read_mpp)
    with pytest.raises(ValueError, match="frozen"):
        preset.region_px = 1


def test_nano_is_as_documented():
    nano = load_preset("nano")
    assert (nano.region_px, nano.patch_px, nano.read_mpp, nano.kept_patches) == (2048, 256, 0.5, 16)
    assert nano.max_mpp == 1.0


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
