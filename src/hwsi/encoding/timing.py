"""Where the time of an encoding goes.

- Stages run side by side in threads, so their seconds may add up to more than the wall's. The share of the
  models is therefore the time in which *at least one* of them was at work, over the whole.
"""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

MODELS = frozenset({"cells", "patch", "region", "slide"})
"""Stages that are a model's work; the others read, find tissue and write."""


class Timings:
    """Collects intervals of named stages, from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._intervals: list[tuple[str, float, float]] = []

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        """Time what is done inside the block."""
        start = time.perf_counter()
        try:
            yield
        finally:
            with self._lock:
                self._intervals.append((stage, start, time.perf_counter()))

    @property
    def wall(self) -> float:
        """Seconds from the first start to the last end."""
        if not self._intervals:
            return 0.0
        return max(end for _, _, end in self._intervals) - min(start for _, start, _ in self._intervals)

    def seconds(self) -> dict[str, float]:
        """Seconds of each stage, summed over threads."""
        total: dict[str, float] = {}
        for stage, start, end in self._intervals:
            total[stage] = total.get(stage, 0.0) + end - start
        return dict(sorted(total.items()))

    def model_share(self) -> float:
        """Fraction of the wall time in which at least one model was at work."""
        busy, reached = 0.0, float("-inf")
        for start, end in sorted((s, e) for stage, s, e in self._intervals if stage in MODELS):
            busy += max(0.0, end - max(start, reached))
            reached = max(reached, end)
        return busy / self.wall if self.wall else 0.0
