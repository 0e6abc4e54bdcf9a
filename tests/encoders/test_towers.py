import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from hwsi import encoders
from hwsi.encoders.slide_nano import SlideNano, nearest
from hwsi.encoders.summaries import cells_dim
from hwsi.encoders.text_nano import TextNano, train_tokenizer
from hwsi.errors import HwsiError, Reason

REGION = encoders.get("region-nano").build(weights=None)
SLIDE = encoders.get("slide-nano").build(weights=None)


def region_input(t: int, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    g = torch.Generator().manual_seed(seed)
    row_col = torch.randperm(64, generator=g)[:t]
    row_col = torch.stack([row_col // 8, row_col % 8], -1)[None]
    return torch.randn(1, t, 192 + cells_dim(64), generator=g), torch.ones(1, t, dtype=torch.bool), row_col


def slide_input(r: int, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Regions on a grid of 1.024 mm with its many equal distances, in a random order."""
    g = torch.Generator().manual_seed(seed)
    side = math.ceil(r**0.5) + 1
    at = torch.randperm(side * side, generator=g)[:r]
    centre = torch.stack([at % side, at // side], -1)[None] * 1.024 + 0.512
    x = torch.cat([torch.randn(1, r, 192, generator=g), torch.rand(1, r, 2, generator=g)], -1)
    return x, torch.ones(1, r, dtype=torch.bool), centre


def pad(x: Tensor, mask: Tensor, place: Tensor, extra: int) -> tuple[Tensor, Tensor, Tensor]:
    """The same with absent entries that hold nonsense."""
    junk = torch.full((1, extra, x.shape[2]), torch.nan)
    place_junk = torch.full((1, extra, 2), 999).to(place.dtype)
    return (
        torch.cat([x, junk], 1),
        torch.cat([mask, torch.zeros(1, extra, dtype=torch.bool)], 1),
        torch.cat([place, place_junk], 1),
    )


def test_patch_shapes_and_refusals() -> None:
    encoder = encoders.get("patch-nano").build(weights=None)
    images = torch.randint(0, 256, (2, 256, 256, 3), dtype=torch.uint8)
    out = encoder.encode(images)
    assert out.shape == (2, encoder.spec.dim)
    assert out.dtype == torch.float32
    assert not out.requires_grad
    assert torch.allclose(encoder.encode(images[1:]), out[1:], atol=1e-5)
    for wrong in (images.float(), images[:, :224], images.permute(0, 3, 1, 2)):
        with pytest.raises(HwsiError) as e:
            encoder.encode(wrong)
        assert e.value.reason is Reason.OPTION_INVALID


@pytest.mark.parametrize(("encoder", "make"), [(REGION, region_input), (SLIDE, slide_input)])
@pytest.mark.parametrize("n", [1, 2, 5, 40])
def test_padding_and_order_change_nothing(encoder, make, n: int) -> None:
    x, mask, place = make(n)
    out = encoder.encode(x, mask, place)
    assert out.shape == (1, encoder.spec.dim)
    assert torch.allclose(encoder.encode(*pad(x, mask, place, 7)), out, atol=1e-5)
    order = torch.randperm(n, generator=torch.Generator().manual_seed(9))
    assert torch.allclose(encoder.encode(x[:, order], mask, place[:, order]), out, atol=1e-5)


@pytest.mark.parametrize(("encoder", "make"), [(REGION, region_input), (SLIDE, slide_input)])
def test_nothing_present_is_finite_and_content_matters(encoder, make) -> None:
    x, mask, place = make(6)
    empty = encoder.encode(x, torch.zeros_like(mask), place)
    assert empty.isfinite().all()
    out = encoder.encode(x, mask, place)
    assert not torch.allclose(out, empty, atol=1e-3)
    assert not torch.allclose(encoder.encode(x, mask, place + 1 + place % 3), out, atol=1e-4)
    changed = x.clone()
    changed[:, 3] *= -1
    assert not torch.allclose(encoder.encode(changed, mask, place), out, atol=1e-3)


def test_absent_entries_get_no_gradient() -> None:
    x, mask, place = region_input(5)
    mask[:, 2] = False
    x.requires_grad_()
    REGION(x, mask, place).sum().backward()
    assert x.grad is not None
    assert (x.grad[:, 2] == 0).all()
    assert (x.grad[:, 1] != 0).any()


def test_moving_the_tissue_on_the_glass_changes_nothing() -> None:
    x, mask, centre = slide_input(30)
    out = SLIDE.encode(x, mask, centre)
    assert torch.allclose(SLIDE.encode(x, mask, centre + torch.tensor([13.7, 4.1])), out, atol=1e-4)


def test_pieces_of_tissue_add_up_over_the_regions() -> None:
    x, mask, centre = slide_input(6)
    x[..., 193] = torch.tensor([1.0, 0, 1, 0, 0, 0])
    two = SLIDE.encode(x, mask, centre)
    x[..., 193] = torch.tensor([1.0, 0, 1, 0, 0, 1])
    three = SLIDE.encode(x, mask, centre)
    mask[0, 5] = False
    assert not torch.allclose(two, three, atol=1e-3)
    with torch.no_grad():
        step = SLIDE.pieces.weight[3] - SLIDE.pieces.weight[2]
    assert step.norm() > 0.1
    x[..., 193] = 90.0
    assert SLIDE.encode(x, mask, centre).isfinite().all()


def dense(encoder: SlideNano, x: Tensor, mask: Tensor, centre: Tensor) -> Tensor:
    """The slide encoder's blocks with one masked attention over all pairs."""
    index, valid = nearest(centre, mask)
    r = x.shape[1]
    sees = torch.zeros(r, r, dtype=torch.bool)
    for i in range(r):
        sees[i, index[0, i][valid[0, i]]] = True
    full = torch.ones(r + 4, r + 4, dtype=torch.bool)
    full[4:, 4:] = sees
    full[:4, 4:] = mask[0]
    tokens = x
    tokens = torch.cat([encoder.globals, tokens], 1)
    for block in encoder.blocks:
        h = block.attention.heads
        q, k, v = block.attention.qkv(block.norm1(tokens)).view(1, r + 4, 3, h, -1).permute(2, 0, 3, 1, 4)
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=full)
        tokens = tokens + block.attention.out(y.transpose(1, 2).reshape(1, r + 4, -1))
        tokens = tokens + block.mlp(block.norm2(tokens))
    return tokens


@pytest.mark.parametrize("r", [3, 25, 120])
def test_sparse_attention_equals_dense_masked_attention(r: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hwsi.encoders.slide_nano._CHUNK", 32)  # several chunks, the last one short
    x, mask, centre = slide_input(r)
    x = x[..., :192]
    mask[0, r // 2] = False
    with torch.no_grad():
        expected = dense(SLIDE, x, mask, centre)
        index, valid = nearest(centre, mask)
        tokens = torch.cat([SLIDE.globals, x], 1)
        for block in SLIDE.blocks:
            tokens = block(tokens, mask, index, valid)
    present = torch.cat([torch.ones(4, dtype=torch.bool), mask[0]])
    assert torch.allclose(tokens[0, present], expected[0, present], atol=1e-5)


@settings(max_examples=20, deadline=None)
@given(st.integers(2, 40), st.integers(0, 10_000))
def test_nearest_are_the_nearest(r: int, seed: int) -> None:
    _, mask, centre = slide_input(r, seed)
    index, valid = nearest(centre, mask)
    assert index.shape == (1, r, min(9, r))
    assert valid.all()
    assert (index[0, :, 0] == torch.arange(r)).all()
    distance = torch.cdist(centre[0].double(), centre[0].double())
    got = distance.gather(1, index[0]).sort(1).values
    assert torch.allclose(got, distance.sort(1).values[:, : got.shape[1]], atol=1e-3)


def test_a_thousand_regions() -> None:
    x, mask, centre = slide_input(1000)
    assert SLIDE.encode(x, mask, centre).isfinite().all()


def test_text_is_of_length_one_and_padding_changes_nothing() -> None:
    tower = TextNano(train_tokenizer(["a gland with a lumen", "mitoses are many"], vocab=400)).eval()
    texts = ["a gland", "mitoses are many and the gland has a lumen " * 3, ""]
    out = tower.encode(texts)
    assert out.shape == (3, 192)
    assert torch.allclose(out.norm(dim=-1), torch.ones(3), atol=1e-5)
    assert torch.allclose(tower.encode(texts[:1]), out[:1], atol=1e-5)
    assert torch.allclose(tower.encode(["A GLAND"]), out[:1], atol=1e-5)
    assert tower.encode([]).shape == (0, 192)
    assert tower.encode(["word " * 5000]).isfinite().all()
    assert not torch.allclose(out[0], out[1], atol=1e-3)
