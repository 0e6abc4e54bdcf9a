"""Which of the slides in a process has the models.

- A process works on more than one slide at a time: while the models are at one of them, the next is fetched, opened,
  searched for tissue and read ahead, and the one before is written. Models take turns, region by region.
- The slide that was begun first goes first, so slides end one after the other and not all at once; while it has
  nothing ready the next one is not kept waiting.
- What is computed does not depend on turns: batches never leave their region.
"""

import heapq
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

Turn = Callable[[], AbstractContextManager[None]]
"""What is entered by a slide around the work of its models."""


def at_once() -> AbstractContextManager[None]:
    """The turn of a slide that is alone."""
    return nullcontext()


class Turns:
    """The order of the slides of one process at its models."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._waiting: list[int] = []
        self._taken = False

    @contextmanager
    def take(self, place: int) -> Iterator[None]:
        """Hold the models; of those that wait the lowest place is next."""
        with self._changed:
            heapq.heappush(self._waiting, place)
            self._changed.wait_for(lambda: not self._taken and self._waiting[0] == place)
            heapq.heappop(self._waiting)
            self._taken = True
        try:
            yield
        finally:
            with self._changed:
                self._taken = False
                self._changed.notify_all()


class Place:
    """A slide's place among those of its process.

    Args:
        turns: of the process.
        number: lower goes first; no two slides that are at work have the same.
        waits: is told when the slide begins to wait (True) and when it has its turn (False).

    Attributes:
        waited: seconds so far.
    """

    def __init__(self, turns: Turns, number: int, waits: Callable[[bool], None]) -> None:
        self._turns, self._number, self._waits = turns, number, waits
        self.waited = 0.0

    @contextmanager
    def __call__(self) -> Iterator[None]:
        """The slide's turn."""
        began = time.perf_counter()
        self._waits(True)
        with self._turns.take(self._number):
            self.waited += time.perf_counter() - began
            self._waits(False)
            yield
