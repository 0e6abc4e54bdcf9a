"""Neighbours of regions: found by a tree, the same as by trying all, and no array of R x R numbers anywhere."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from hwsi.encoders.slide_nano import SlideNano, nearest
from hwsi.encoders.vit_wsi import VitWsi192


def by_trying_all(centre: Tensor, k: int = 8) -> Tensor:
    """(R, k+1): the definition, with all R x R keys."""
    step = centre[None].double() - centre[:, None].double()
    key = step.square().sum(-1) * (1 + 1e-4 * torch.atan2(step[..., 1], step[..., 0]) / math.pi)
    key.fill_diagonal_(-1.0)
    return key.topk(min(k + 1, len(centre)), largest=False).indices


def grid(n: int, side: int, seed: int) -> Tensor:
    """(1, n, 2): places of a grid, in any order."""
    order = torch.randperm(side * side, generator=torch.Generator().manual_seed(seed))[:n]
    return torch.stack([order // side, order % side], 1)[None] * 1.024


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 80), st.integers(9, 14), st.integers(0, 10_000))
def test_on_a_grid_they_are_those_of_the_definition(n, side, seed):
    centre = grid(n, side, seed)
    index, valid = nearest(centre, torch.ones(1, n, dtype=torch.bool))
    assert valid.all()
    assert (index[0] == by_trying_all(centre[0])).all()


def test_many_at_one_distance_go_by_their_direction():
    """A circle of sixty around one: more ties than were asked for at first."""
    angle = torch.arange(60) / 60 * 2 * math.pi + 0.01
    centre = torch.cat([torch.zeros(1, 2, dtype=torch.float64), torch.stack([angle.cos(), angle.sin()], 1)])
    index, _ = nearest(centre[None], torch.ones(1, 61, dtype=torch.bool))
    turned = torch.atan2(centre[1:, 1], centre[1:, 0]).argsort()[:8] + 1
    assert sorted(index[0, 0, 1:].tolist()) == sorted(turned.tolist())


def test_places_that_coincide_and_slides_without_regions():
    index, valid = nearest(torch.zeros(2, 30, 2), torch.tensor([[True] * 30, [False] * 30]))
    assert (index[0, :, 0] == torch.arange(30)).all()
    assert valid[0].all()
    assert not valid[1].any()


class Largest(TorchDispatchMode):
    """Remembers the most numbers that any tensor had."""

    numbers = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for t in out if isinstance(out, tuple | list) else (out,):
            if isinstance(t, Tensor):
                self.numbers = max(self.numbers, t.numel())
        return out


@pytest.mark.parametrize("encoder", [SlideNano, VitWsi192])
def test_the_largest_tensor_grows_with_the_regions_not_with_their_square(encoder):
    net, largest = encoder(), []
    for n in (500, 2000):
        width = net.region_dim + (2 if net.tissue is not None else 0)
        x = torch.rand(1, n, width, requires_grad=True)
        with Largest() as seen:
            net(x, torch.ones(1, n, dtype=torch.bool), grid(n, 45, 0)).sum().backward()
        largest.append(seen.numbers)
        assert x.grad is not None
        assert x.grad.isfinite().all()
    assert largest[1] < 2000 * 2000
    assert largest[1] <= 4.2 * largest[0]
