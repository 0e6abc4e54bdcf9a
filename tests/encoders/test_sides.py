"""Sums of regions come to what one would sum up over the patches of the whole slide."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hwsi.encoders.nano import REGION_MM, REGION_SIDE
from hwsi.encoders.region_nano import build as build_region
from hwsi.encoders.sides import AMOUNTS, TAIL, WHOLE, Sides, add_up
from hwsi.encoders.slide_nano import build as build_slide
from hwsi.presets import load_preset

SIDE = 4
GRID = torch.tensor([(r, c) for r in range(SIDE) for c in range(SIDE)])


def slide(seed: int, rows: int, cols: int) -> tuple[Sides, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Sums, tokens (R, T, 6), mask (R, T) and centres (R, 2) of a slide of some regions, some of it glass."""
    torch.manual_seed(seed)
    mask = torch.rand(rows * cols, SIDE**2) < 0.6
    mask[0, 0] = True
    mask[~mask.any(1), 3] = True
    centres = torch.tensor([(2.0 * c, 2.0 * r) for r in range(rows) for c in range(cols)])
    return Sides(dim=6, side=SIDE), torch.randn(rows * cols, SIDE**2, 6), mask, centres


@given(st.integers(0, 1000), st.integers(1, 4), st.integers(1, 4))
def test_sums_of_regions_are_those_over_all_patches(seed: int, rows: int, cols: int) -> None:
    sides, tokens, mask, centres = slide(seed, rows, cols)
    with torch.no_grad():
        tails = sides(tokens, mask, GRID.expand(len(mask), -1, 2))
        found = add_up(tails[None], torch.ones(1, len(mask), dtype=torch.bool), centres[None] + 7)[0].double()
        amount = sides.amount(tokens).sigmoid()[mask].double()
    places = (centres[:, None] + (2 * GRID.flip(-1) + 1) / SIDE - 1)[mask].double()
    low, high = places.amin(0) - 1 / SIDE, places.amax(0) + 1 / SIDE
    half = (high - low) / 2
    x, y = ((places - (low + high) / 2) / half).unbind(-1)
    total = amount.sum(0) / SIDE**2
    means = [(amount * by[:, None]).sum(0) / SIDE**2 / (total + 1e-3) for by in (x, y, x * y)]
    truth = torch.cat([(total + 1e-3).sqrt(), *means, half])
    assert found.shape == (WHOLE,)
    assert torch.allclose(found, truth, atol=1e-4)


def test_what_is_absent_says_nothing() -> None:
    sides, tokens, mask, centres = slide(3, 2, 2)
    rows = GRID.expand(4, -1, 2)
    with torch.no_grad():
        tails = sides(tokens, mask, rows)
        other = torch.where(mask[..., None], tokens, torch.full_like(tokens, 9.0))
        assert torch.equal(tails, sides(other, mask, rows))
        assert torch.equal(sides(tokens, torch.zeros_like(mask), rows), torch.zeros(4, TAIL))
        some = torch.tensor([[True, True, True, False]])
        alone = add_up(tails[None, :3], some[:, :3], centres[None, :3])
        assert torch.equal(add_up(tails[None], some, centres[None]), alone)
        nothing = add_up(tails[None], torch.zeros_like(some), centres[None])
        assert torch.isfinite(nothing).all()
        assert torch.equal(nothing[:, 4 * AMOUNTS :], torch.zeros(1, 2))


def test_the_slide_encoder_hears_on_which_side_a_region_lies() -> None:
    region, whole = build_region(None), build_slide(None)
    torch.manual_seed(0)
    mask = torch.ones(2, REGION_SIDE**2, dtype=torch.bool)
    grid = torch.tensor([(r, c) for r in range(REGION_SIDE) for c in range(REGION_SIDE)]).expand(2, -1, 2)
    vectors = region.encode(torch.randn(2, REGION_SIDE**2, 192 + 261), mask, grid)
    seen = torch.cat([vectors, torch.ones(2, 2)], 1)[None]
    mm = torch.tensor([[[0.5, 0.5], [0.5 + REGION_MM, 0.5]]])
    there = torch.ones(1, 2, dtype=torch.bool)
    one, other = whole.encode(seen, there, mm), whole.encode(seen, there, mm.flip(1))
    whole.sides.weight.data.zero_()
    deaf, deaf_other = whole.encode(seen, there, mm), whole.encode(seen, there, mm.flip(1))
    assert (one - deaf - other + deaf_other).norm() > 0.01


def test_a_region_of_the_preset_has_the_side_that_the_sums_count_with() -> None:
    preset = load_preset("nano")
    assert preset.region_px // preset.patch_px == REGION_SIDE
    assert preset.region_px * preset.read_mpp / 1000 == pytest.approx(REGION_MM)
