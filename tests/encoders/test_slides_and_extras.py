"""Slide encoders and InstanSeg around what others make: masks, consent, missing packages, what is passed on."""

import json
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from hwsi.encoders import cell_instanseg, region_mean, registry, slide_hub, slide_mean
from hwsi.encoders.base import CellEncoder, SlideEncoder
from hwsi.encoders.cell_slide_cards import INSTANSEG, PRISM, TITAN
from hwsi.errors import HwsiError, Reason

NOWHERE = torch.zeros(2, 3, 2)


def test_mean_leaves_padding_out():
    encoder = slide_mean.build(None)
    assert isinstance(encoder, SlideEncoder)
    regions = torch.tensor([[[1.0, 2.0], [3.0, 6.0], [torch.nan, 9.0]], [[torch.nan] * 2] * 3])
    mask = torch.tensor([[True, True, False], [False] * 3])
    assert encoder.encode(regions, mask, NOWHERE).tolist() == [[2.0, 4.0], [0.0, 0.0]]


def test_mean_of_patches_leaves_background_out():
    encoder = region_mean.build(None)
    patches = torch.rand(2, 3, 5)
    mask = torch.tensor([[True, False, True], [False, False, False]])
    patches[0, 1] = torch.nan
    found = encoder.encode(patches, mask, torch.zeros(2, 3, 2, dtype=torch.long))
    assert torch.allclose(found[0], patches[0, [0, 2]].mean(0))
    assert not found[1].any()
    with pytest.raises(HwsiError, match="region-mean has no weights"):
        region_mean.build(Path("mean.safetensors"))


def test_mean_takes_no_weights():
    with pytest.raises(HwsiError) as caught:
        slide_mean.build(Path("mean.safetensors"))
    assert caught.value.reason is Reason.WEIGHTS_MISMATCH


# --- code of others ---

CODE = """
import torch
from transformers import PretrainedConfig, PreTrainedModel

class OtherConfig(PretrainedConfig):
    model_type = "other-{tag}"

class Other(PreTrainedModel):
    config_class = OtherConfig

    def __init__(self, config):
        super().__init__(config)
        self.scale = torch.nn.Parameter(torch.ones(1))
        self.post_init()

    def encode_slide_from_patch_features(self, features, coords, patch_size_lv0):
        assert coords.dtype == torch.int64 and patch_size_lv0 == 512 and features.dtype == torch.float32
        self.places = coords[0]
        return self.scale * features.mean(1)

    def slide_representations(self, embeddings):
        return {{"image_embedding": self.scale * embeddings.mean(1)[:, :1280], "image_latents": None}}
"""


@pytest.fixture
def snapshot(tmp_path, monkeypatch):
    """A repository with code, as the Hub's cache holds it: the folder is called as its commit."""
    from safetensors.torch import save_file

    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "modules"))
    monkeypatch.setattr(sys, "path", [*sys.path])
    folder = tmp_path / "0123abcd"
    folder.mkdir()
    (folder / "modeling_other.py").write_text(CODE.format(tag=tmp_path.name))
    auto = {"AutoConfig": "modeling_other.OtherConfig", "AutoModel": "modeling_other.Other"}
    config = {"model_type": f"other-{tmp_path.name}", "auto_map": auto, "architectures": ["Other"]}
    (folder / "config.json").write_text(json.dumps(config))
    save_file({"scale": torch.tensor([2.0])}, folder / "model.safetensors", {"format": "pt"})
    return folder / "model.safetensors"


@pytest.mark.parametrize(("make", "card"), [(slide_hub.titan, TITAN), (slide_hub.prism, PRISM)])
def test_code_is_refused_without_trust(make, card, snapshot):
    with pytest.raises(HwsiError) as caught:
        make(snapshot)
    text = str(caught.value)
    assert caught.value.reason is Reason.OPTION_INVALID
    assert card.hub in text
    assert card.licence in text
    assert (card.revision or "0123abcd") in text
    assert "trust_remote_code=True" in text
    assert "\n" not in text
    assert not any("modeling_other" in name for name in sys.modules)


def test_the_registry_does_not_trust_either(snapshot):
    with pytest.raises(HwsiError, match="was not trusted"):
        TITAN.build(weights=snapshot)


def test_weights_that_the_code_does_not_find_are_not_made_up(snapshot):
    from safetensors.torch import save_file

    save_file({"other": torch.tensor([2.0])}, snapshot, {"format": "pt"})
    with pytest.raises(HwsiError, match=r"model\.safetensors lacks scale") as caught:
        slide_hub.titan(snapshot, trust_remote_code=True)
    assert caught.value.reason is Reason.WEIGHTS_MISMATCH


def test_the_registry_builds_what_is_trusted(snapshot):
    assert isinstance(TITAN.build(weights=snapshot, trust_remote_code=True), SlideEncoder)


def test_trusted_titan_gets_features_and_places_on_its_grid(snapshot):
    encoder = slide_hub.titan(snapshot, trust_remote_code=True)
    assert isinstance(encoder, SlideEncoder)
    patches = torch.rand(1, 4, 768, dtype=torch.float16)
    mask = torch.tensor([[True, True, False, True]])
    # patches of 0.256 mm somewhere on the glass, with the rounding of a centre of odd pixels
    centre = torch.tensor([[[10.1281, 5.1279], [10.3839, 5.1281], [99.0, 99.0], [10.1280, 5.6400]]])
    found = encoder.encode(patches, mask, centre)
    assert found.shape == (1, 768)
    assert torch.allclose(found[0], 2 * patches[0, mask[0]].float().mean(0))
    assert encoder.model.places.tolist() == [[0, 0], [512, 0], [0, 1024]]
    assert not encoder.encode(patches, torch.zeros_like(mask), centre).any()


def test_trusted_prism_gets_the_patches_that_are_there(snapshot):
    encoder = slide_hub.prism(snapshot, trust_remote_code=True)
    patches = torch.rand(2, 3, 2560)
    mask = torch.tensor([[True, False, True], [True, True, True]])
    found = encoder.encode(patches, mask, NOWHERE)
    assert found.shape == (2, 1280)
    assert torch.allclose(found[0], 2 * patches[0, [0, 2], :1280].mean(0))


def test_vectors_of_another_encoder_are_refused(snapshot):
    encoder = slide_hub.prism(snapshot, trust_remote_code=True)
    with pytest.raises(HwsiError, match=r"2560 numbers, not of 768.*virchow"):
        encoder.encode(torch.rand(2, 3, 768), torch.ones(2, 3, dtype=torch.bool), NOWHERE)


def test_a_snapshot_that_is_not_there_or_not_whole(snapshot, tmp_path):
    with pytest.raises(HwsiError, match="no snapshot of MahmoodLab/TITAN") as caught:
        slide_hub.titan(tmp_path / "model.safetensors", trust_remote_code=True)
    assert caught.value.reason is Reason.WEIGHTS_MISSING
    (snapshot.parent / "config.json").unlink()
    with pytest.raises(HwsiError, match="no whole snapshot") as caught:
        slide_hub.titan(snapshot, trust_remote_code=True)
    assert caught.value.reason is Reason.WEIGHTS_MISMATCH


def test_a_package_that_the_code_needs_is_named(snapshot):
    code = snapshot.parent / "modeling_other.py"
    code.write_text("import package_that_nobody_has\n" + code.read_text())
    with pytest.raises(HwsiError, match="package_that_nobody_has") as caught:
        slide_hub.titan(snapshot, trust_remote_code=True)
    assert caught.value.reason is Reason.EXTRA_MISSING


# --- InstanSeg ---


class Squares(torch.nn.Module):
    """Stands for the model: what is dark gets a number per 64 px, with gaps."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        dark = (x[:, 1:2] < 128).float()
        rows = torch.arange(x.shape[2])[:, None] // 64
        cols = torch.arange(x.shape[3])[None] // 64
        return dark * (20.0 * rows + cols + 7)[None, None]


class Package:
    """``instanseg.InstanSeg`` as far as we call it (0.1.2); ran with the package itself by hand."""

    calls: tuple[str, ...] = ()

    def __init__(self, model_type, device=None, verbosity=1):
        assert isinstance(model_type, torch.nn.Module)
        self.model = model_type

    def eval_small_image(self, image, pixel_size=None, return_image_tensor=True, target="all_outputs"):
        assert (image.dtype, image.shape[0], pixel_size) == (torch.uint8, 3, 0.5)
        assert (return_image_tensor, target) == (False, "nuclei")
        Package.calls += ("small",)
        return self.model(image[None].float())

    def eval_medium_image(self, image, **options):
        labels = self.eval_small_image(image, **options)
        Package.calls = (*Package.calls[:-1], "medium")
        return labels


@pytest.fixture
def instanseg(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "instanseg", SimpleNamespace(InstanSeg=Package))
    monkeypatch.setattr(cell_instanseg, "find_spec", lambda name: object())
    monkeypatch.setattr(Package, "calls", ())
    torch.jit.script(Squares()).save(str(tmp_path / "instanseg.pt"))
    return cell_instanseg.build(tmp_path / "instanseg.pt")


def squares(rows, cols):
    """Dark squares of 20 px in the middle of each 64."""
    one = np.full((64, 64, 3), 255, np.uint8)
    one[22:42, 22:42] = (90, 40, 120)
    return np.tile(one, (rows, cols, 1))


def test_instanseg_cells(instanseg):
    assert isinstance(instanseg, CellEncoder)
    cells = instanseg.encode(squares(3, 5), 0.5, (0, 0, 320, 100))
    assert len(cells) == 10
    assert cells.features.shape == (10, INSTANSEG.dim)
    assert cells.xy[0].tolist() == [31.5, 31.5]
    assert cells.area_um2 == pytest.approx(100)
    # no types are known, and none is claimed
    assert not cells.type_prob.any()


def test_instanseg_tiles_what_is_large(instanseg):
    assert len(instanseg.encode(squares(17, 17), 0.5)) == 17 * 17
    assert len(instanseg.encode(squares(2, 2), 0.5)) == 4
    assert Package.calls == ("medium", "small")


def test_instanseg_without_its_package(tmp_path, monkeypatch):
    monkeypatch.setattr(cell_instanseg, "find_spec", lambda name: None)
    with pytest.raises(HwsiError, match="pip install instanseg-torch") as caught:
        cell_instanseg.build(tmp_path / "instanseg.pt")
    assert caught.value.reason is Reason.EXTRA_MISSING


def test_instanseg_without_its_model(instanseg, tmp_path):
    with pytest.raises(HwsiError, match=r"brightfield_nuclei\.zip") as caught:
        cell_instanseg.build(tmp_path / "none.pt")
    assert caught.value.reason is Reason.WEIGHTS_MISSING
    (tmp_path / "torn.pt").write_bytes(b"no zip")
    with pytest.raises(HwsiError, match="no TorchScript") as caught:
        cell_instanseg.build(tmp_path / "torn.pt")
    assert caught.value.reason is Reason.WEIGHTS_MISMATCH


def test_ids_are_found():
    assert registry.get("slide_mean").id == "slide-mean"
