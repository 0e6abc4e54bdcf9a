"""Each item once, ranks apart and alike, and a place in the run that can be gone back to."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader

from hwsi.errors import HwsiError, Reason
from hwsi.training.data.buckets import LengthBuckets

COSTS = st.lists(st.integers(1, 500), min_size=4, max_size=120)
SIZES = st.integers(1, 5)
RANKS = st.integers(1, 4)


@settings(deadline=None)
@given(COSTS, SIZES, RANKS, st.one_of(st.none(), st.integers(1, 900)), st.integers(0, 3))
def test_every_item_comes_once_an_epoch_and_ranks_share_the_work(costs, size, ranks, most, epoch):
    samplers = [LengthBuckets(costs, size, max_cost=most, rank=r, ranks=ranks) for r in range(ranks)]
    plan = samplers[0].plan(epoch)
    assert all(s.plan(epoch) == plan for s in samplers), "what a rank plans does not depend on the rank"
    for s in samplers:
        s.set_epoch(epoch)
    mine = [list(s) for s in samplers]
    assert len({len(batches) for batches in mine}) == 1
    seen = [index for batches in mine for batch in batches for _, index in batch]
    assert sorted([*seen, *plan.remainder]) == list(range(len(costs)))
    assert len(plan.remainder) < ranks, "only fewer items than ranks are left out"
    assert {e for batches in mine for batch in batches for e, _ in batch} <= {epoch}
    for batch in plan.batches:
        assert 1 <= len(batch) <= size
        assert most is None or len(batch) == 1 or len(batch) * max(costs[i] for i in batch) <= most


@settings(deadline=None)
@given(COSTS, st.integers(1, 3), st.integers(1, 2), st.integers(0, 3), st.integers(1, 30))
def test_going_on_from_any_place_equals_an_unbroken_run(costs, size, ranks, seed, done):
    def sampler():
        return LengthBuckets(costs, size, seed=seed, rank=ranks - 1, ranks=ranks)

    unbroken, run = [], sampler()
    while len(unbroken) < done + 20:
        unbroken += [(epoch, batch) for epoch in [run.epoch] for batch in run]
    # the place after `done` batches, as a trainer counts it
    place = sampler()
    epoch = step = 0
    for _ in range(done):
        step += 1
        if step == place.steps(epoch):
            epoch, step = epoch + 1, 0
    for state in [(epoch, step), *([(epoch - 1, place.steps(epoch - 1))] if not step and epoch else [])]:
        resumed = sampler()
        resumed.load_state(resumed.state(*state))
        found = []
        while len(found) < 10:
            found += [(epoch, batch) for epoch in [resumed.epoch] for batch in resumed]
        assert found[:10] == unbroken[done : done + 10]


@settings(deadline=None)
@given(COSTS, SIZES, RANKS)
def test_full_batches_are_full_and_the_remainder_is_stated(costs, size, ranks):
    if len(costs) < size * ranks:
        with pytest.raises(HwsiError):
            LengthBuckets(costs, size, ranks=ranks, full_only=True)
        return
    plan = LengthBuckets(costs, size, ranks=ranks, full_only=True).plan(0)
    assert {len(batch) for batch in plan.batches} == {size}
    assert len(plan.batches) % ranks == 0
    assert len(plan.remainder) == len(costs) % (size * ranks)
    assert sorted([*plan.remainder, *(i for b in plan.batches for i in b)]) == list(range(len(costs)))


def test_batches_are_alike_inside_and_across_ranks_and_differ_by_epoch():
    costs = [1 + (i * 7919) % 1000 for i in range(600)]
    sampler = LengthBuckets(costs, 4, ranks=2)
    plan = sampler.plan(0)
    padded = sum(len(b) * max(costs[i] for i in b) for b in plan.batches)
    assert padded < 1.1 * sum(costs), "batches drawn blindly need 1.6 times as much"
    for a, b in zip(plan.batches[::2], plan.batches[1::2], strict=True):
        assert abs(max(costs[i] for i in a) - max(costs[i] for i in b)) < 100
    assert plan != sampler.plan(1)
    assert plan != LengthBuckets(costs, 4, ranks=2, seed=1).plan(0)
    assert plan == LengthBuckets(costs, 4, ranks=2).plan(0)
    few = LengthBuckets(costs[:200], 4, ranks=2).plan(0)
    order = [max(costs[i] for i in b) for b in few.batches]
    assert order != sorted(order), "lengths come in no order"


def test_over_epochs_no_item_is_always_the_one_left_out():
    sampler = LengthBuckets([5] * 9 + [100], 3, ranks=2, full_only=True)
    assert len({i for epoch in range(40) for i in sampler.plan(epoch).remainder}) == 10


def test_a_checkpoint_of_another_run_is_refused():
    state = LengthBuckets([1, 2, 3, 4], 2).state(0, 1)
    for other in (
        LengthBuckets([1, 2, 3, 5], 2),
        LengthBuckets([1, 2, 3, 4], 1),
        LengthBuckets([1, 2, 3, 4], 2, seed=1),
    ):
        with pytest.raises(HwsiError) as caught:
            other.load_state(state)
        assert caught.value.reason is Reason.OPTION_INVALID


@pytest.mark.parametrize(
    "wrong",
    [{"batch_size": 0}, {"rank": 2, "ranks": 2}, {"max_cost": 0}, {"max_cost": 9, "full_only": True}, {"ranks": 9}],
)
def test_sizes_that_make_no_batches_are_refused(wrong):
    with pytest.raises(HwsiError):
        LengthBuckets(**{"costs": [1, 2, 3], "batch_size": 2, **wrong})


def test_a_data_loader_takes_it_as_it_is():
    sampler = LengthBuckets([1, 2, 3, 4, 5], 2)
    items = {(epoch, i): (epoch, i) for epoch in range(2) for i in range(5)}
    loader = DataLoader(items, batch_sampler=sampler, collate_fn=list)
    first, second = list(loader), list(loader)
    assert len(loader) == 3
    assert sorted(v for batch in first for v in batch) == [(0, i) for i in range(5)]
    assert sorted(v for batch in second for v in batch) == [(1, i) for i in range(5)]
