"""CellViT-256 against the release's with the same weights; SAM's encoder against transformers', and by its size."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from golden import golden, recipe, relative, skip
from torch import nn
from transformers import SamVisionConfig
from transformers.models.sam.modeling_sam import SamVisionEncoder

from hwsi.encoders.cellvit import build_256
from hwsi.encoders.cellvit_backbones import SamBackbone
from hwsi.encoders.cellvit_network import cellvit_256, cellvit_sam_h

LIMIT = 1e-4


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    tensors, sidecar = golden("07_cellvit256")
    file = tmp_path_factory.mktemp("cellvit") / "CellViT-256-x40-AMP.pth"
    config = {"transformations.normalize.mean": [0.5, 0.5, 0.5], "data.num_nuclei_classes": 6}
    torch.save({"config": config, "arch": "CellViT256", "model_state_dict": recipe(sidecar)}, file)
    encoder = build_256(file)
    return tensors, encoder.maps(tensors["image_u8"][None])


@skip
def test_tokens(run):
    tensors, maps = run
    assert relative(maps.tokens, tensors["tokens"]) < LIMIT


@skip
def test_maps_of_pixels(run):
    tensors, maps = run
    assert relative(maps.organ, tensors["tissue_types"]) < LIMIT
    assert relative(maps.nuclei, tensors["nuclei_binary_map"]) < LIMIT
    assert relative(maps.hv, tensors["hv_map"]) < LIMIT
    assert relative(maps.types[..., ::4, ::4], tensors["nuclei_type_map_stride4"]) < LIMIT


@skip
def test_type_of_each_pixel(run):
    tensors, maps = run
    assert np.array_equal(maps.types.argmax(1).numpy(), tensors["nuclei_type_argmax"].numpy())


def test_sizes_are_those_of_the_paper():
    with torch.device("meta"):
        sizes = [sum(p.numel() for p in make().parameters()) for make in (cellvit_256, cellvit_sam_h)]
    # CellViT (10.1016/j.media.2024.103143) gives 46.75 M and 699.74 M
    assert sizes == [46_750_349, 699_741_149]


@pytest.fixture(scope="module")
def sams():
    """A small SAM encoder of ours and of transformers with the same weights, for images of 320 px."""
    torch.manual_seed(0)
    ours = SamBackbone(dim=32, depth=4, heads=2, taps=(1, 2, 3, 4), global_blocks=(1, 3)).eval()
    for parameter in ours.parameters():
        nn.init.normal_(parameter, std=0.2)
    config = SamVisionConfig(
        hidden_size=32, output_channels=256, num_hidden_layers=4, num_attention_heads=2, image_size=320, patch_size=16,
        window_size=14, global_attn_indexes=[1, 3], mlp_dim=128, layer_norm_eps=1e-6, attn_implementation="eager",
    )  # fmt: skip
    theirs = SamVisionEncoder(config).eval()
    state = {}
    for key, value in ours.state_dict().items():
        key = key.replace("blocks.", "layers.").replace("norm1", "layer_norm1").replace("norm2", "layer_norm2")
        key = key.replace("patch_embed.proj", "patch_embed.projection")
        for i, name in enumerate(("conv1", "layer_norm1", "conv2", "layer_norm2")):
            key = key.replace(f"neck.{i}.", f"neck.{name}.")
        state[key] = value
    # theirs is told the size of the image: positions of its corner, a table of relative positions to be stretched
    state["pos_embed"] = state["pos_embed"][:, :20, :20]
    for i in (1, 3):
        for name in ("rel_pos_h", "rel_pos_w"):
            setattr(theirs.layers[i].attn, name, nn.Parameter(torch.zeros_like(state[f"layers.{i}.attn.{name}"])))
    theirs.load_state_dict(state, strict=True)
    return SimpleNamespace(ours=ours, theirs=theirs)


@torch.no_grad()
def test_sam_backbone_is_sams(sams):
    images = torch.randn(2, 3, 320, 320)  # 20 x 20 tokens: windows of 14 are padded, tables are stretched
    stages = sams.ours.stages(images)
    expected = sams.theirs(images, output_hidden_states=True)
    for found, hidden in zip(stages.maps, expected.hidden_states[1:], strict=True):
        assert relative(found.permute(0, 2, 3, 1), hidden) < LIMIT
    assert relative(stages.summary, expected.last_hidden_state.mean((2, 3))) < LIMIT
