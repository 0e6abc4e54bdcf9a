"""A run over a cohort as it may go: a discrete-event simulation of workers, slides and failures.

- An event is a worker that becomes free. It takes the next slide; if its node fails before the slide is done, all that
  was done of it is lost, the slide waits again, and the node's workers come back when it is repaired.
- Nodes fail independently, at exponential intervals. Areas of tissue are log-normal. How long a mm² takes differs from
  slide to slide as it did among those that were measured.
- Equal seeds give equal runs.

Notation: N slides, W workers.
"""

import heapq
import math
from bisect import bisect_right
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.float64]


@dataclass(frozen=True)
class Cluster:
    """Machines.

    Attributes:
        nodes, workers_per_node: how many.
        node_mtbf_h: mean hours between failures of one node; 0: they never fail.
        repair_h: until it is back.
        bandwidth_mb_s: that all workers share for reading; None: it is never what limits.
    """

    nodes: int
    workers_per_node: int
    node_mtbf_h: float = 0.0
    repair_h: float = 0.5
    bandwidth_mb_s: float | None = None

    @property
    def workers(self) -> int:
        """All of them."""
        return self.nodes * self.workers_per_node


@dataclass(frozen=True)
class Cohort:
    """Slides.

    Attributes:
        slides: how many.
        tissue_mm2, tissue_cv: mean area, and its standard deviation over the mean.
        broken: share that fails as soon as it is opened.
        hung: share of which nothing is heard until the timeout.
        stragglers, straggler_factor: share that takes so many times as long.
        timeout_s: of ``hwsi encode``.
    """

    slides: int
    tissue_mm2: float
    tissue_cv: float = 0.7
    broken: float = 0.01
    hung: float = 0.0001
    stragglers: float = 0.01
    straggler_factor: float = 5.0
    timeout_s: float = 1800.0


_BROKEN_S = 2.0


@dataclass(frozen=True)
class Run:
    """How one simulated run went.

    Attributes:
        seconds: from its first to its last moment.
        busy_s: of all workers, with what was lost; lost_s: what was.
        failures: of nodes that had slides at work.
        mm2: tissue that was encoded.
    """

    seconds: float
    busy_s: float
    lost_s: float
    failures: int
    mm2: float


def draw_slides(
    cohort: Cohort, cluster: Cluster, per_mm2: Float, weights: Float, bytes_per_mm2: float, rng: np.random.Generator
) -> tuple[Float, Float]:
    """Seconds (N,) that each slide keeps a worker, and its tissue (N,) in mm².

    Args:
        cohort, cluster: what and where.
        per_mm2: (k,) seconds for a mm², of the slides that were measured. weights: (k,) how often each is drawn.
        bytes_per_mm2: that are read.
        rng: of this run.
    """
    n = cohort.slides
    variance = math.log1p(cohort.tissue_cv**2)
    mm2 = rng.lognormal(math.log(cohort.tissue_mm2) - variance / 2, math.sqrt(variance), n)
    seconds = mm2 * rng.choice(per_mm2, n, p=weights)
    seconds *= np.where(rng.random(n) < cohort.stragglers, cohort.straggler_factor, 1.0)
    if cluster.bandwidth_mb_s is not None:
        share = cluster.bandwidth_mb_s * 1e6 / cluster.workers
        seconds = np.maximum(seconds, mm2 * bytes_per_mm2 / share)
    fate = rng.random(n)
    broken, hung = fate < cohort.broken, (fate >= cohort.broken) & (fate < cohort.broken + cohort.hung)
    seconds = np.where(broken, _BROKEN_S, np.where(hung, cohort.timeout_s, seconds))
    return seconds, np.where(broken | hung, 0.0, mm2)


def simulate(seconds: Float, mm2: Float, cluster: Cluster, rng: np.random.Generator) -> Run:
    """One run over slides that take ``seconds`` (N,) and hold ``mm2`` (N,) of tissue."""
    nodes = [_Node(cluster, rng) for _ in range(cluster.nodes)]
    free = [(0.0, worker) for worker in range(cluster.workers)]
    again: list[tuple[float, float]] = []  # (since when it waits, what it takes)
    order = iter(seconds.tolist())
    end = busy = lost = 0.0
    following = next(order, None)
    while following is not None or again:
        now, worker = heapq.heappop(free)
        if again and again[0][0] <= now:
            takes = heapq.heappop(again)[1]
        elif following is not None:
            takes, following = following, next(order, None)
        else:
            heapq.heappush(free, (again[0][0], worker))
            continue
        node = nodes[worker // cluster.workers_per_node]
        fails = node.fails_after(now)
        if fails < now + takes:
            node.struck.add(fails)
            busy, lost = busy + fails - now, lost + fails - now
            heapq.heappush(again, (fails, takes))
            heapq.heappush(free, (fails + cluster.repair_h * 3600, worker))
        else:
            busy, end = busy + takes, max(end, now + takes)
            heapq.heappush(free, (now + takes, worker))
    return Run(end, busy, lost, sum(len(node.struck) for node in nodes), float(mm2.sum()))


class _Node:
    """When a node fails; drawn as far as anybody looks."""

    def __init__(self, cluster: Cluster, rng: np.random.Generator) -> None:
        self._mean_s, self._repair_s, self._rng = cluster.node_mtbf_h * 3600, cluster.repair_h * 3600, rng
        self._times: list[float] = []
        self.struck: set[float] = set()

    def fails_after(self, now: float) -> float:
        """The next failure after ``now``, in seconds."""
        if not self._mean_s:
            return math.inf
        while not self._times or self._times[-1] <= now:
            since = self._times[-1] + self._repair_s if self._times else 0.0
            self._times.append(since + self._rng.exponential(self._mean_s))
        return self._times[bisect_right(self._times, now)]
