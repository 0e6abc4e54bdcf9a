import warnings
from functools import partial

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hwsi.encoders import foundation, onednn
from hwsi.encoders.conch import AttentionPool
from hwsi.encoders.int8 import Int8Linear, agreement, quantise
from hwsi.encoders.patch_vits import PatchViT
from hwsi.encoders.pixels import IMAGENET, Preparation
from hwsi.encoders.vit_plain import PlainViT
from hwsi.encoders.weights import initialise
from hwsi.errors import HwsiError, Reason

CAN = torch.cpu.get_capabilities()
needs_vnni = pytest.mark.skipif(
    not (CAN.get("avx512_vnni") or CAN.get("avx_vnni")), reason="this CPU has no 8-bit products"
)
_vit = partial(PlainViT, image=64, patch=16, dim=64, depth=2, heads=2, hidden=128)


def _encoder() -> PatchViT:
    return PatchViT(
        spec=foundation.UNI_V1,
        vit=initialise(_vit, None),
        preparation=Preparation(side=64, colour=IMAGENET),
        with_mean=True,
    )


def _images(n: int) -> Tensor:
    return torch.from_numpy(np.random.default_rng(0).integers(0, 256, (n, 64, 64, 3), dtype=np.uint8))


@needs_vnni
def test_a_layer_is_what_its_roundings_say() -> None:
    torch.manual_seed(0)
    layer = nn.Linear(48, 40)
    x = torch.randn(2, 7, 48) * torch.tensor([1.0, 30.0]).view(2, 1, 1) + 0.5
    scale = layer.weight.abs().amax(1, keepdim=True) / 127
    weight = (layer.weight / scale).round().double() * scale
    step = x.abs().amax(-1, keepdim=True) / 127
    whole = (x / step + 0.5).floor().double() * step
    want = whole @ weight.T + layer.bias
    with torch.no_grad():
        found = Int8Linear(layer)(x)
        plain = layer(x)
    assert found.dtype == torch.float32
    assert torch.allclose(found.double(), want, atol=1e-5, rtol=1e-5)
    # and the roundings matter
    assert (found - plain).abs().max() > 1e-3
    assert F.cosine_similarity(found, plain, dim=-1).min() > 0.999
    without = nn.Linear(48, 40, bias=False)
    with torch.no_grad():
        assert torch.allclose(Int8Linear(without)(x), without(x), atol=0.05 * x.abs().max().item())


@needs_vnni
def test_rows_of_zeros_give_the_bias_and_no_rows_nothing() -> None:
    layer = Int8Linear(nn.Linear(16, 8))
    assert torch.equal(layer(torch.zeros(3, 16)), layer.bias.expand(3, 8))
    dead = nn.Linear(16, 8)
    nn.init.zeros_(dead.weight)
    assert torch.isfinite(Int8Linear(dead)(torch.randn(2, 16))).all()
    assert layer(torch.zeros(0, 5, 16)).shape == (0, 5, 8)


@needs_vnni
def test_an_encoder_keeps_its_vectors_and_its_own_weights() -> None:
    encoder = _encoder()
    before = encoder.encode(_images(4))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        quantised = quantise(encoder)
        vectors = quantised.encode(_images(4))
    assert {type(m).__name__ for m in quantised.modules() if hasattr(m, "in_features")} == {"Int8Linear"}
    assert not any(isinstance(m, Int8Linear) for m in encoder.modules())
    assert torch.equal(encoder.encode(_images(4)), before)
    assert quantised.vit.patch_embed.proj.weight is encoder.vit.patch_embed.proj.weight
    assert vectors.shape == before.shape
    near = agreement(encoder, quantised, _images(4))
    assert near.shape == (4,)
    assert 0.999 < near.min() < 1 - 1e-6
    # what else is in a batch changes nothing
    assert torch.allclose(quantised.encode(_images(4)[1:2]), vectors[1:2], atol=1e-6)


@needs_vnni
def test_layers_that_others_only_read_are_left() -> None:
    pool = AttentionPool()
    with torch.no_grad():
        assert quantise(pool)(torch.randn(2, 3, 768)).shape == (2, 512)


def test_where_it_cannot_be_it_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(HwsiError, match="float32") as e:
        quantise(_encoder().half())
    assert e.value.reason is Reason.OPTION_INVALID
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx2": True})
    with pytest.raises(HwsiError, match="VNNI") as e:
        quantise(_encoder())
    assert e.value.reason is Reason.OPTION_INVALID


@pytest.mark.parametrize("bias", [True, False])
def test_the_fast_layer_is_the_plain_one(bias: bool) -> None:
    torch.manual_seed(0)
    fast = onednn.Linear(96, 130, bias=bias)
    plain = nn.Linear(96, 130, bias=bias)
    plain.load_state_dict(fast.state_dict())
    x = torch.randn(3, 50, 2 * 96)[..., :96]
    with torch.no_grad():
        assert torch.allclose(fast(x), plain(x), atol=1e-5)
        assert torch.allclose(fast.gelu(x), F.gelu(plain(x)), atol=1e-5)
        assert fast(x[:0]).shape == (0, 50, 130)
    # gradients flow
    x.requires_grad_()
    fast.gelu(x).sum().backward()
    assert x.grad is not None
    assert fast.weight.grad is not None
