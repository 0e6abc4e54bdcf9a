"""Batches of items of similar cost: little padding, and every rank works as long as the others.

- What a batch holds follows from (costs, seed, epoch) alone; nothing is drawn from global state.
- Every rank gets the same number of batches, and at each step batches of similar cost: batch ``s * ranks + r`` of an
  epoch is rank r's at step s.
- Every item comes exactly once an epoch, but for the stated remainder: fewer items than ranks, or, if only full
  batches are wanted (a contrast needs its negatives), what does not fill a batch on every rank.
- The place in a run is (epoch, step), a small dict; going on from it gives the batches of an unbroken run.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import numpy as np
from torch.utils.data import Sampler

from hwsi.errors import HwsiError, Reason

Visit = tuple[int, int]
"""(epoch, index of an item): what ``rows.py`` takes."""

_POOL = 64  # batches of each rank that are sorted together: alike inside, and yet drawn anew every epoch


@dataclass(frozen=True)
class Epoch:
    """All batches of an epoch, of all ranks.

    Attributes:
        batches: lists of indices; their number is a multiple of the ranks.
        remainder: indices that no batch of this epoch holds.
    """

    batches: tuple[tuple[int, ...], ...]
    remainder: tuple[int, ...]


class LengthBuckets(Sampler[list[Visit]]):
    """The batches of one rank, epoch after epoch; a ``batch_sampler`` for a ``DataLoader``.

    Args:
        costs: of each item, at least 1: tokens, patches.
        batch_size: items in a batch, at most.
        max_cost: of a batch as padded (its items times the most expensive of them), at most; an item that alone costs
            more stands alone. None for no limit.
        full_only: no batch is smaller than ``batch_size``; not with ``max_cost``.
        seed: of the order. rank, ranks: of this process.

    Raises:
        HwsiError: OPTION_INVALID (sizes that make no sense, fewer items than the first step needs).
    """

    def __init__(
        self,
        costs: Sequence[int],
        batch_size: int,
        *,
        max_cost: int | None = None,
        full_only: bool = False,
        seed: int = 0,
        rank: int = 0,
        ranks: int = 1,
    ) -> None:
        if batch_size < 1 or not 0 <= rank < ranks or (max_cost is not None and (max_cost < 1 or full_only)):
            what = f"batch size {batch_size}, at most {max_cost} tokens, rank {rank} of {ranks} make no batches"
            raise HwsiError(Reason.OPTION_INVALID, what, "give positive numbers, and full batches without a limit")
        needed = ranks * (batch_size if full_only else 1)
        if len(costs) < needed:
            what = f"{len(costs)} items are too few for one step, which needs {needed}"
            raise HwsiError(Reason.OPTION_INVALID, what, "give more data, a smaller batch or fewer processes")
        self.costs = np.maximum(np.asarray(costs, np.int64), 1)
        self.batch_size, self.max_cost, self.full_only = batch_size, max_cost, full_only
        self.seed, self.rank, self.ranks = seed, rank, ranks
        self.epoch = self.step = 0
        self._planned = (-1, Epoch((), ()))

    def plan(self, epoch: int) -> Epoch:
        """The batches of an epoch."""
        if self._planned[0] != epoch:
            self._planned = (epoch, self._plan(epoch))
        return self._planned[1]

    def _plan(self, epoch: int) -> Epoch:
        rng = np.random.default_rng([self.seed, epoch, 5])
        order = rng.permutation(len(self.costs))
        pool = _POOL * self.ranks * self.batch_size
        batches: list[list[int]] = []
        rest: list[int] = []
        for start in range(0, len(order), pool):
            # costs sort the pool, its shuffled order breaks ties
            some = order[start : start + pool]
            some = some[np.argsort(self.costs[some], kind="stable")]
            step = self.batch_size * self.ranks
            whole = len(some) // step * step if self.full_only else len(some)
            out = set(rng.choice(len(some), len(some) - whole, replace=False).tolist())  # not always the longest
            rest += [int(i) for k, i in enumerate(some) if k in out]
            batches += self._cut([int(i) for k, i in enumerate(some) if k not in out])
        batches, left = self._even(batches, rng)
        steps = [batches[i : i + self.ranks] for i in range(0, len(batches), self.ranks)]
        shuffled = [tuple(batch) for s in rng.permutation(len(steps)) for batch in steps[s]]
        return Epoch(tuple(shuffled), tuple(sorted(rest + left)))

    def steps(self, epoch: int | None = None) -> int:
        """Batches of this rank in an epoch; the current one without a number."""
        return len(self.plan(self.epoch if epoch is None else epoch).batches) // self.ranks

    def __len__(self) -> int:
        return self.steps()

    def __iter__(self) -> Iterator[list[Visit]]:
        """The batches that are left of the current epoch; the next call begins the next one."""
        epoch, first = self.epoch, self.step
        for batch in self.plan(epoch).batches[self.rank :: self.ranks][first:]:
            yield [(epoch, index) for index in batch]
        self.epoch, self.step = epoch + 1, 0

    def set_epoch(self, epoch: int) -> None:
        """Go to the beginning of an epoch; nothing happens if the sampler is anywhere in it."""
        if epoch != self.epoch:
            self.epoch, self.step = epoch, 0

    def state(self, epoch: int, step: int) -> dict[str, Any]:
        """The place in the run after ``step`` batches of ``epoch`` were learned from, for a checkpoint.

        The trainer counts: a ``DataLoader`` asks for batches ahead of time.
        """
        return {"epoch": epoch, "step": step, "batches": self._digest()}

    def load_state(self, state: dict[str, Any]) -> None:
        """Go on from there.

        Raises:
            HwsiError: OPTION_INVALID (the batches are others: data, batch size, seed or ranks changed).
        """
        if state["batches"] != self._digest():
            what = "the checkpoint was made with other data, batch size, seed or number of processes"
            raise HwsiError(Reason.OPTION_INVALID, what, "resume with the same, or begin anew")
        self.epoch, self.step = int(state["epoch"]), int(state["step"])
        if self.step >= self.steps():
            self.epoch, self.step = self.epoch + 1, 0

    def _cut(self, indices: list[int]) -> list[list[int]]:
        """Batches of indices in order of their cost."""
        batches: list[list[int]] = []
        for i in indices:
            last = batches[-1] if batches else []
            # sorted by cost, so that this item is what the batch would be padded to
            fits = self.max_cost is None or (len(last) + 1) * int(self.costs[i]) <= self.max_cost
            if last and len(last) < self.batch_size and fits:
                last.append(i)
            else:
                batches.append([i])
        return batches

    def _even(self, batches: list[list[int]], rng: np.random.Generator) -> tuple[list[list[int]], list[int]]:
        """As many batches on every rank: the largest are split; where all hold one item, some are left out."""
        while len(batches) % self.ranks:
            most = max(range(len(batches)), key=lambda b: (len(batches[b]), b))
            if len(batches[most]) == 1:
                out = set(rng.choice(len(batches), len(batches) % self.ranks, replace=False).tolist())
                return [b for k, b in enumerate(batches) if k not in out], [i for k in sorted(out) for i in batches[k]]
            middle = len(batches[most]) // 2
            batches[most : most + 1] = [batches[most][:middle], batches[most][middle:]]
        return batches, []

    def _digest(self) -> str:
        told = f"{self.batch_size} {self.max_cost} {self.full_only} {self.seed} {self.ranks} ".encode()
        return sha256(told + self.costs.tobytes()).hexdigest()[:16]
