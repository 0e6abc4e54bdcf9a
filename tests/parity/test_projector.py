"""The released model's visual part against the authors' numbers, on every path."""

import pytest
import torch
from golden import golden, relative, skip
from transformers import Qwen2Config

from hwsi.model.config import HwsiResampleConfig
from hwsi.model.released import released_names
from hwsi.model.resample import ResampleBatch, ResampleVisual

pytestmark = skip
SCALES = {"slide": "wsi", "region": "region", "patch": "patch", "cell": "cell"}


def error(ours, theirs):
    return relative(ours, theirs.reshape(ours.shape))


@pytest.fixture(scope="module", params=["mlp", "linear"])
def case(request):
    """Our module with their weights, their tensors."""
    tensors, about = golden(f"01_projector_{request.param}")
    given = about["config"]
    config = HwsiResampleConfig(
        text_config=Qwen2Config(hidden_size=given["llm_dim"]), projector=given["projector_type"], dropout=0.1,
        hidden=given["hidden_dim"], queries=given["num_query_tokens"], heads=about["num_heads"],
    )  # fmt: skip
    visual = ResampleVisual(config).eval()
    names = released_names(config.projector)
    theirs = {key[3:]: value for key, value in tensors.items() if key.startswith("sd.")}
    assert set(names.values()) == set(theirs)  # every one of their weights has a home, and none is left
    visual.load_state_dict({ours: theirs[name] for ours, name in names.items()}, strict=True)
    return visual, tensors


def batch(tensors, *masks):
    held = {"region_mask": tensors["region_mask"].bool(), "patch_mask": tensors["cell_mask"].bool(),
            "cell_mask": tensors["cell_mask"].bool()}  # fmt: skip
    features = {f"{ours}_features": tensors[theirs] for ours, theirs in SCALES.items()}
    return ResampleBatch(**features, **{name: held[name] for name in masks})


ALL = ("region_mask", "patch_mask", "cell_mask")


@torch.inference_mode()
def test_tokens_of_each_scale(case):
    visual, tensors = case
    tokens = visual.project(batch(tensors))
    for scale, name in (("slide", "wsi_token"), ("region", "region_tokens"), ("patch", "patch_tokens"),
                        ("cell", "cell_tokens")):  # fmt: skip
        assert error(tokens[scale], tensors[name]) < 2e-6, scale


@torch.inference_mode()
@pytest.mark.parametrize(
    ("path", "masks", "padding_counts"),
    [
        ("nomask", (), False),
        ("masked", ALL, False),
        ("regiononly", ("region_mask",), False),
        ("train", ALL, True),
        ("retrieval", (), False),
    ],
)
def test_paths(case, path, masks, padding_counts):
    visual, tensors = case
    given = batch(tensors, *masks)
    assert error(visual(given, padding_counts=padding_counts), tensors[f"{path}.slide_tokens"]) < 5e-6
    if f"{path}.fused" in tensors:
        fused = visual.fuse(visual.project(given), given, padding_counts=padding_counts)
        assert error(fused, tensors[f"{path}.fused"]) < 5e-6
    if f"{path}.rep.cell" in tensors:
        pooled = visual.pooled(given)
        for ours, theirs in SCALES.items():
            assert error(pooled[ours], tensors[f"{path}.rep.{theirs}"]) < 5e-6, ours


@torch.inference_mode()
def test_the_paths_differ(case):
    """Else the test above could not tell one from another."""
    visual, tensors = case
    made = [visual(batch(tensors)), visual(batch(tensors, *ALL)), visual(batch(tensors, *ALL), padding_counts=True),
            visual(batch(tensors, "region_mask"))]  # fmt: skip
    for i, a in enumerate(made):
        for b in made[:i]:
            assert error(a, b) > 1e-2


@torch.inference_mode()
def test_with_masks_a_slide_does_not_depend_on_its_batch_mates(case):
    visual, tensors = case
    together = visual(batch(tensors, *ALL))[1]
    regions, patches = tensors["region_mask"][1].sum(), tensors["cell_mask"][1].sum(-1).max()
    alone = {k: v[1:2, :regions] if v.ndim > 2 else v[1:2] for k, v in tensors.items() if k in SCALES.values()}
    alone["region_mask"] = tensors["region_mask"][1:2, :regions]
    alone["cell_mask"] = tensors["cell_mask"][1:2, :regions, :patches]
    alone |= {k: alone[k][:, :, :patches] for k in ("patch", "cell")}
    assert error(visual(batch(alone, *ALL))[0], together) < 5e-6


def test_size_of_the_release():
    with torch.device("meta"):
        visual = ResampleVisual(HwsiResampleConfig(text_config=Qwen2Config(hidden_size=3584)))

    def millions(module):
        return sum(p.numel() for p in module.parameters()) / 1e6

    sizes = {scale: round(millions(part), 2) for scale, part in visual.projectors.items()}
    assert sizes == {"slide": 3.87, "region": 3.87, "patch": 4.2, "cell": 4.07}
    assert round(millions(visual.fusion), 1) == 128.5
    assert round(millions(visual.resampler), 1) == 154.4
    assert round(millions(visual), 1) == 298.9


def test_a_slide_without_regions_is_refused(case):
    visual, tensors = case
    none = {**tensors, "region_mask": torch.zeros_like(tensors["region_mask"])}
    with pytest.raises(ValueError, match="no region"):
        visual(batch(none, *ALL))
