"""Workers on a Ray cluster: the same run and the same table, with actors instead of processes.

- The driver alone writes the table of states: workers take slides and say what becomes of them, so SQLite never lies
  on a shared file system. An actor gets no more slides than it works at: nothing piles up in the cluster.
- A slide may run twice (a node that was thought lost comes back): encoding is idempotent. Whatever was at work on a
  node that is lost waits again; a new actor begins where the cluster has room.
- Slides, cache and job folder are named by the same paths on all nodes; without a shared file system, slides are URLs
  and finished files go to a store.
"""

import os
from dataclasses import replace
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

from hwsi.encoding.cohort.job import Job, Row
from hwsi.encoding.cohort.lane import Lane, Work
from hwsi.encoding.cohort.worker import Death, Message
from hwsi.errors import HwsiError, Reason

_LISTEN_S = 1.0
_TRIES = 3
_SHORT_OF_MEMORY = "low on memory"
"""As Ray says it when it ends a worker for that; other losses name the kernel's killer as a mere possibility."""


def connect() -> Any:
    """Ray, connected: to the cluster of RAY_ADDRESS or the one that runs here, else to a new one of this machine.

    Raises:
        HwsiError: EXTRA_MISSING, OPTION_INVALID if no cluster can be reached.
    """
    try:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is told to anybody
        import ray
    except ImportError as error:
        todo = "pip install 'hwsi[ray]' on all nodes"
        raise HwsiError(Reason.EXTRA_MISSING, "--engine ray needs Ray, which is not installed", todo) from error
    for left in range(_TRIES - 1, -1, -1):
        if ray.is_initialized():
            break
        try:
            ray.init(log_to_driver=False, include_dashboard=None, configure_logging=False)
        except Exception as error:  # it has many, and says in them what is wrong
            ray.shutdown()
            if left and "timed out" in str(error):  # on a busy machine it has not begun after its 30 seconds
                continue
            what = f"no Ray cluster can be reached: {type(error).__name__}: {error}"
            raise HwsiError(Reason.OPTION_INVALID, what, "start one with ray start, and set RAY_ADDRESS") from error
    return ray


def gpus() -> int:
    """How many GPUs the cluster has. Raises as :func:`connect`."""
    return int(connect().cluster_resources().get("GPU", 0))


def nodes() -> int:
    """How many machines the cluster has. Raises as :func:`connect`."""
    return len([node for node in connect().nodes() if node["Alive"]])


class RayCluster:
    """Where workers come from: a Ray cluster.

    Args:
        job: how slides are encoded. work: what encodes one.
        count: how many workers there will be: the cluster's processors are shared out among them.
        gpu: each has one GPU.

    Raises:
        HwsiError: as :func:`connect`.
    """

    def __init__(self, job: Job, work: Work | None, count: int, *, gpu: bool) -> None:
        self._ray = connect()
        of_nodes = [node["Resources"].get("CPU", 1.0) for node in self._ray.nodes() if node["Alive"]]
        cpus = int(min(sum(of_nodes) / count, max(of_nodes))) or 1
        self._options = {"num_cpus": cpus, "num_gpus": int(gpu), "scheduling_strategy": "SPREAD"}
        self._given = self._ray.put((_anywhere(job), work)), cpus
        self._actor = self._ray.remote(_Encoder)

    def start(self, index: int) -> "RayWorker":
        """An actor; Ray finds a place for it."""
        # one call listens while others bring slides
        actor = self._actor.options(**self._options, max_concurrency=4).remote(*self._given, index)
        return RayWorker(self._ray, actor)

    def wait(self, workers: list[Any], timeout_s: float) -> None:
        """Until one speaks or is lost."""
        self._ray.wait([worker.heard for worker in workers], timeout=timeout_s)


def _anywhere(job: Job) -> Job:
    """The job with paths that do not depend on where a process was started."""
    cache, patches = (None if path is None else Path(os.path.abspath(path)) for path in (job.cache, job.patches))
    return replace(job, out=Path(os.path.abspath(job.out)), cache=cache, patches=patches)


class RayWorker:
    """One actor, as the driver sees it."""

    starts_within_s = float("inf")  # it may wait for room in the cluster, or for a node that is being started

    def __init__(self, ray: Any, actor: Any) -> None:
        self._ray, self._actor = ray, actor
        self._death: Death | None = None
        self._said: list[Message] = []
        self.heard = actor.listen.remote()

    def give(self, row: Row) -> None:
        """Let it encode a slide."""
        self._actor.give.remote(row)

    def messages(self) -> list[Message]:
        """What it said since the last call."""
        self._listen()
        said, self._said = self._said, []
        return said

    def death(self) -> Death | None:
        """How it ended."""
        self._listen()
        return self._death

    def _listen(self) -> None:
        if self._death is not None or not self._ray.wait([self.heard], timeout=0)[0]:
            return
        try:
            self._said += self._ray.get(self.heard)
            self.heard = self._actor.listen.remote()
        except self._ray.exceptions.RayError as error:
            said = " ".join(str(error).split())
            why = Reason.OUT_OF_MEMORY if _SHORT_OF_MEMORY in said else Reason.WORKER_KILLED
            self._death = Death(why, said[:200])

    def kill(self) -> None:
        """End it at once."""
        self._ray.kill(self._actor)

    def dismiss(self) -> None:
        """Let it go: it has nothing to do."""
        self.kill()


class _Encoder:
    """What runs on a node."""

    def __init__(self, given: tuple[Job, Work | None], threads: int, index: int) -> None:
        self._told: SimpleQueue[Message] = SimpleQueue()
        self._lane = Lane(*given, index, self._tell, threads=threads)
        self._tell("ready", 0, None)

    def _tell(self, kind: str, row: int, what: Any) -> None:
        self._told.put((kind, row, what))

    def give(self, row: Row) -> None:
        self._lane.give(row)

    def listen(self) -> list[Message]:
        """What was said; waits a while for the first word."""
        said: list[Message] = []
        try:
            said.append(self._told.get(timeout=_LISTEN_S))
            while True:
                said.append(self._told.get_nowait())
        except Empty:
            return said
