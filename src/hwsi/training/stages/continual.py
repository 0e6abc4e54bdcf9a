"""Learning a new task without losing the former ones.

- Replay: a share of the rows comes from the tasks before. Their place in the run is filled anew every epoch, by rows
  of about the same cost, so that batches stay even.
- Forgetting of a task is what its held-out figure lost by the run: the share of answers that were right (every token
  of them) before, less the share after. Negative: the task gained.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from torch.utils.data import Dataset

from hwsi.errors import HwsiError, Reason
from hwsi.training.stages.checkpoint import Given, StageRecord
from hwsi.training.stages.config import Data, InstructConfig


def former_tasks(config: InstructConfig, given: Given) -> dict[str, Data]:
    """Tasks that the given model has learned before this one: name -> its data.

    Raises:
        HwsiError: OPTION_INVALID (this task's name was taken by other data; replay of nothing).
    """
    tasks = {name: Data.model_validate(told) for name, told in (given.tasks or {}).items()}
    if config.task in tasks and tasks[config.task] != config.data:
        what = f"the model has learned a task '{config.task}' from other data"
        raise HwsiError(Reason.OPTION_INVALID, what, "give this one another name (task)")
    tasks.pop(config.task, None)
    if config.replay and not tasks:
        what = f"replay is {config.replay}, but nothing is known of what {given.folder} has learned before"
        raise HwsiError(Reason.OPTION_INVALID, what, "leave replay out, or start from a folder of hwsi train instruct")
    return tasks


class Replay(Dataset[Any]):
    """So many rows of former tasks that they are a share of all.

    Args:
        former: rows of the former tasks. new: of the new one. share: of all rows, below 1.
        seed: of the draw.

    Place i draws, anew every epoch, from the i-th part of the former rows in order of cost, and costs what the most
    expensive of them does. Fewer former rows than places come several times an epoch.
    """

    def __init__(self, former: Any, new: Any, share: float, seed: int) -> None:
        self._former, self._seed = former, seed
        places = max(1, round(len(new) * share / (1 - share)))
        order = np.argsort(former.costs, kind="stable")
        ends = np.linspace(0, len(order), places + 1)
        # a part that would be empty has the row at its place
        self._parts = [order[int(a) : max(int(b), int(a) + 1)] for a, b in pairwise(ends.tolist())]
        costs = former.costs
        self.costs = [max(costs[int(i)] for i in part) for part in self._parts]

    def __len__(self) -> int:
        return len(self._parts)

    def __getitem__(self, at: int | tuple[int, int]) -> Any:
        epoch, place = at if isinstance(at, tuple) else (0, at)
        part = self._parts[place]
        rng = np.random.default_rng([self._seed, epoch, place, 11])
        return self._former[epoch, int(part[int(rng.integers(len(part)))])]


@dataclass(frozen=True)
class Forgetting:
    """Held-out figures of a task before and after a run."""

    task: str
    before: float
    after: float

    @property
    def lost(self) -> float:
        """Positive: forgotten."""
        return self.before - self.after


def forgetting(record: StageRecord) -> list[Forgetting]:
    """Share of right answers of every task that has held-out patients, the new one last."""
    before: Mapping[str, Mapping[str, float]] = record.metrics.get("before", {})
    new = record.config.get("task")
    found = []
    for task, figures in before.items():
        # one task alone has no name in the figures
        after = record.metrics.get(f"{task}_right", record.metrics.get("right"))
        if after is not None:
            found.append(Forgetting(task, figures["right"], float(after)))
    return sorted(found, key=lambda f: f.task == new)
