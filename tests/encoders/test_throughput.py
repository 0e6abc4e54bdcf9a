from collections.abc import Callable

import pytest
import torch
from torch import nn

from hwsi.encoders.throughput import best_batch, measure

CPU = torch.device("cpu")


class Machine:
    """A clock, and an encoder that takes a known time for each batch."""

    def __init__(self, costs: dict[int, float], *, last: float = 1.0, full: int = 10**9) -> None:
        self.time = 0.0
        self.costs, self.last, self.full = costs, last, full
        self.tried: list[tuple[int, bool]] = []
        self.encoder = nn.Conv2d(3, 4, 2)

    def batch(self, n: int) -> Callable[[], object]:
        last = self.encoder.weight.is_contiguous(memory_format=torch.channels_last)
        self.tried.append((n, last))

        def run() -> None:
            if n >= self.full:
                raise torch.OutOfMemoryError("full")
            self.time += self.costs[n] * (self.last if last else 1.0)

        return run

    def best(self, *candidates: int) -> tuple[int, bool, float]:
        rate = best_batch(self.encoder, CPU, candidates, 1.0, batch=self.batch, clock=lambda: self.time)
        assert self.encoder.weight.is_contiguous()
        return rate.batch, rate.channels_last, rate.images_per_s


def test_calls_a_second_leave_the_first_out() -> None:
    machine = Machine({1: 0.25})
    run = machine.batch(1)
    calls = 0

    def slow_at_first() -> None:
        nonlocal calls
        calls += 1
        machine.time += 100.0 if calls == 1 else 0.0
        run()

    assert measure(slow_at_first, CPU, 1.0, lambda: machine.time) == (pytest.approx(4.0), 0)
    assert calls == 5


def test_the_fastest_batch_is_taken() -> None:
    assert Machine({1: 1.0, 4: 2.0, 16: 16.0}).best(16, 1, 4) == (4, False, pytest.approx(2.0))


def test_of_batches_as_good_as_equal_the_smallest_is_taken() -> None:
    assert Machine({1: 1.0, 4: 2.0, 16: 7.9}).best(1, 4, 16)[0] == 4
    assert Machine({1: 1.0, 4: 2.0, 16: 7.0}).best(1, 4, 16)[0] == 16


def test_channels_last_is_taken_where_it_is_faster() -> None:
    assert Machine({4: 2.0}, last=0.5).best(4) == (4, True, pytest.approx(4.0))
    assert Machine({4: 2.0}, last=2.0).best(4) == (4, False, pytest.approx(2.0))


def test_what_gets_slower_is_not_followed_up() -> None:
    machine = Machine({1: 1.0, 4: 2.0, 16: 16.0, 64: 1.0})
    assert machine.best(1, 4, 16, 64)[0] == 4
    # and the other layout is tried with what was taken, only
    assert set(machine.tried) == {(1, False), (4, False), (16, False), (4, True)}


def test_one_slow_moment_decides_nothing() -> None:
    machine = Machine({1: 1.0, 4: 2.0})
    calls = 0

    def stuttering(n: int) -> Callable[[], object]:
        run = machine.batch(n)

        def once() -> None:
            nonlocal calls
            calls += 1
            machine.time += 2.0 if calls == 4 else 0.0  # in the first turn of the larger batch
            run()

        return once

    rate = best_batch(machine.encoder, CPU, (1, 4), 3.0, batch=stuttering, clock=lambda: machine.time)
    assert (rate.batch, rate.images_per_s) == (4, pytest.approx(2.0))


def test_layouts_are_not_tried_without_convolutions() -> None:
    machine = Machine({1: 1.0})
    machine.encoder = nn.Linear(2, 2)  # type: ignore[assignment]
    assert machine.best(1)[:2] == (1, False)
    assert set(machine.tried) == {(1, False)}


def test_what_does_not_fit_is_not_taken() -> None:
    machine = Machine({1: 1.0, 4: 2.0, 16: 1.0, 64: 1.0}, full=16)
    assert machine.best(1, 4, 16, 64)[0] == 4
    assert 64 not in [n for n, _ in machine.tried]
    with pytest.raises(torch.OutOfMemoryError):
        Machine({1: 1.0}, full=1).best(1)
