"""CCAF, projectors and the visual part."""

import pytest
import torch

from hwsi.errors import HwsiError, Reason
from hwsi.model.ccaf import Ccaf
from hwsi.model.config import HwsiConfig, HwsiVisualConfig
from hwsi.model.projectors import FourierPlace
from hwsi.model.visual import HwsiVisual


@pytest.fixture(scope="module")
def ccaf():
    torch.manual_seed(0)
    model = Ccaf(HwsiVisualConfig()).eval()
    torch.nn.init.normal_(model.cls)
    torch.nn.init.normal_(model.no_cells)
    return model


def cells(n: int, k: int, seed: int = 0):
    g = torch.Generator().manual_seed(seed)
    return torch.randn(n, k, 64, generator=g), torch.rand(n, k, 2, generator=g)


def fuse(ccaf, features, xy, mask=None, count=None):
    mask = torch.ones(features.shape[:2], dtype=torch.bool) if mask is None else mask
    with torch.inference_mode():
        return ccaf(features, mask, xy, mask.sum(1) if count is None else count)


@pytest.mark.parametrize("junk", [0.0, 1e4, float("nan"), float("inf")])
def test_padding_never_changes_the_result(ccaf, junk):
    features, xy = cells(3, 5)
    want = fuse(ccaf, features, xy)
    padded = torch.full((3, 9, 64), junk)
    place = torch.full((3, 9, 2), junk)
    mask = torch.zeros(3, 9, dtype=torch.bool)
    padded[:, :5], place[:, :5], mask[:, :5] = features, xy, True
    torch.testing.assert_close(fuse(ccaf, padded, place, mask), want, atol=1e-5, rtol=0)


def test_order_of_cells_does_not_matter_but_their_place_does(ccaf):
    features, xy = cells(2, 6)
    order = torch.tensor([3, 1, 5, 0, 2, 4])
    want = fuse(ccaf, features, xy)
    torch.testing.assert_close(fuse(ccaf, features[:, order], xy[:, order]), want, atol=1e-5, rtol=0)
    assert (fuse(ccaf, features, 1 - xy) - want).abs().max() > 1e-3


def test_batch_equals_one_by_one(ccaf):
    features, xy = cells(4, 5)
    mask = torch.arange(5)[None] < torch.tensor([[5], [1], [0], [3]])
    together = fuse(ccaf, features, xy, mask)
    for i in range(4):
        torch.testing.assert_close(
            fuse(ccaf, features[i : i + 1], xy[i : i + 1], mask[i : i + 1]),
            together[i : i + 1],
            atol=1e-5,
            rtol=0,
        )


def test_no_cells_is_learned_finite_and_has_gradients(ccaf):
    out = ccaf(torch.zeros(2, 0, 64), torch.zeros(2, 0, dtype=torch.bool), torch.zeros(2, 0, 2), torch.zeros(2))
    assert torch.isfinite(out).all()
    torch.testing.assert_close(out[0], ccaf.no_cells + ccaf.count.bias)
    features, xy = cells(2, 3)
    mask = torch.tensor([[True] * 3, [False] * 3])
    out = ccaf(features, mask, xy, mask.sum(1))
    out.sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in ccaf.parameters())
    assert ccaf.no_cells.grad.abs().sum() > 0


def test_attention_forgets_the_number_so_it_is_fed_in(ccaf):
    """The same twenty cells once or ten times over: attention hardly tells, the fed number does."""
    features, xy = cells(1, 20)
    once = fuse(ccaf, features, xy)
    same_number, true_number = (
        fuse(ccaf, features.repeat(1, 10, 1), xy.repeat(1, 10, 1), count=torch.tensor([n])) for n in (20, 200)
    )
    assert (same_number - once).norm() < 0.2 * (true_number - once).norm()


def test_places_that_differ_by_a_patch_or_by_centimetres_differ():
    torch.manual_seed(0)
    place = FourierPlace(HwsiVisualConfig())
    mm = torch.tensor([[0.0, 0.0], [0.128, 0.0], [0.0, 0.128], [30.0, 0.0], [30.128, 0.0]])
    out = place(mm)
    assert torch.cdist(out, out).add(torch.eye(5) * 9).min() > 0.05


def test_a_text_only_batch_reaches_every_visual_parameter(nano, slide):
    """Otherwise a distributed run hangs in the step in which one rank has no slide."""
    model, processor = nano["hier"]
    row = processor.encode(None, [[{"role": "user", "content": "hm?"}, {"role": "assistant", "content": "no"}]])
    model.zero_grad()
    model(**processor.pad([row])).loss.backward()
    assert all(p.grad is not None and not p.grad.any() for p in model.model.visual.parameters())
    model.zero_grad(set_to_none=True)


def test_numbers_of_items_and_placeholders_must_agree(nano, slide):
    model, processor = nano["hier"]
    inputs = processor("What?", slide)
    inputs["patch_mask"][0, 0] = False
    with pytest.raises(ValueError, match="placeholders of scale patch"):
        model(**inputs)
    inputs = processor("What?", slide)
    del inputs["cell_xy"]
    with pytest.raises(ValueError, match="cell_xy"):
        model(**inputs)


def test_features_in_another_dtype_are_cast(nano, slide):
    model, processor = nano["hier"]
    inputs = processor("What?", slide).to(torch.bfloat16)
    with torch.inference_mode():
        assert model(**inputs).logits.dtype == torch.float32


def test_paper_width_builds():
    config = HwsiVisualConfig(dims={"slide": 192, "region": 192, "patch": 512, "cell": 384}, ccaf_width=768, width=128)
    visual = HwsiVisual(config)
    assert visual.ccaf.cls.shape == (768,)
    assert visual.projectors["patch"].up.in_features == 512


@pytest.mark.parametrize(
    "options",
    [
        {"fusion": "resample"},
        {"visual_mixing": "some"},
        {"kept_patches": 0},
        {"placeholder_ids": {"slide": 1, "region": 1, "patch": 2, "cell": 3}},
        {"visual_config": {"ccaf_width": 97}},
        {"visual_config": {"dims": {"patch": 3}}},
        {"text_config": {"model_type": "mistral", "sliding_window": 128}},
    ],
)
def test_what_cannot_be_built_is_refused(options):
    with pytest.raises(HwsiError) as error:
        HwsiConfig(**options)
    assert error.value.reason is Reason.OPTION_INVALID
