"""Processes that encode slides for a cohort: what breaks in one is a slide's row, and not the run.

- A process is spawned, not forked: no state of the parent, and its threads are its own.
- It dies with its parent, however that dies, so that a run which goes on finds no lock of the dead one.
- A native decoder that crashes, and a kernel that kills for memory, end a process and raise nothing: how it ended
  says why.
- :class:`Worker` and :class:`Engine` are what the runner knows of any engine; a cluster has its own (``on_ray.py``).
"""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, Protocol

from hwsi.encoding.cohort.job import Job, Row
from hwsi.encoding.cohort.lane import Lane, Work
from hwsi.errors import Reason

Message = tuple[str, int, Any]
"""As of :data:`hwsi.encoding.cohort.lane.Say`."""


@dataclass(frozen=True)
class Death:
    """How a worker ended: the reason code, and what is known of it."""

    why: Reason
    how: str


class Worker(Protocol):
    """Who encodes slides, somewhere."""

    starts_within_s: float
    """It is taken for hanging if nothing was heard of it for so long."""

    def give(self, row: Row) -> None:
        """Let it encode a slide. One that is gone is found by :meth:`death`."""

    def messages(self) -> list[Message]:
        """What it said since the last call."""

    def death(self) -> Death | None:
        """How it ended, told once; None while it lives. What it said before is still to be read."""

    def kill(self) -> None:
        """End it at once."""

    def dismiss(self) -> None:
        """Let it go when it has nothing to do."""


class Engine(Protocol):
    """Where workers come from."""

    def start(self, index: int) -> Worker:
        """A worker."""

    def wait(self, workers: list[Worker], timeout_s: float) -> None:
        """Until one of them has something to say, or has died."""


class Processes:
    """Workers that are processes of this machine.

    Args:
        job: how slides are encoded. work: what encodes one.
        count: how many workers there will be: threads are shared out among them.
        starts_within_s: of a worker: a process needs a while to start where the machine is busy.
    """

    def __init__(self, job: Job, work: Work | None, count: int, starts_within_s: float) -> None:
        self._job, self._work, self._starts_within_s = job, work, starts_within_s
        self._threads = None if count == 1 else max(1, (os.cpu_count() or 1) // count)
        self._kills = memory_kills()

    def start(self, index: int) -> "Process":
        """Spawn one."""
        return Process(self._job, self._work, index, self._threads, self._starts_within_s, self._killed_for_memory)

    def _killed_for_memory(self) -> bool:
        """Whether the kernel killed for memory since this was last asked."""
        before, self._kills = self._kills, memory_kills()
        return self._kills > before

    def wait(self, workers: list[Any], timeout_s: float) -> None:
        """Until one speaks or ends."""
        wait([end for w in workers for end in (w.connection, w.process.sentinel)], timeout=timeout_s)


class Process:
    """One process, as its parent sees it."""

    def __init__(
        self, job: Job, work: Work | None, index: int, threads: int | None, starts_within_s: float,
        killed_for_memory: Callable[[], bool],
    ) -> None:  # fmt: skip
        self.starts_within_s = starts_within_s
        self._killed_for_memory = killed_for_memory
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(theirs, job, work, index, threads), daemon=True)
        self.process.start()
        theirs.close()

    def give(self, row: Row) -> None:
        """Let it encode a slide."""
        with suppress(OSError):
            self.connection.send(row)

    def messages(self) -> list[Message]:
        """What it said since the last call."""
        said: list[Message] = []
        with suppress(EOFError, OSError):
            while self.connection.poll():
                said.append(self.connection.recv())
        return said

    def death(self) -> Death | None:
        """How it ended."""
        if self.process.is_alive():
            return None
        exitcode = self.process.exitcode
        return Death(why_it_died(exitcode, self._killed_for_memory()), f"exit status {exitcode}")

    def kill(self) -> None:
        """End it at once."""
        self.process.kill()
        self.process.join()
        self.connection.close()

    def dismiss(self) -> None:
        """Let it go when it has nothing to do."""
        with suppress(OSError):
            self.connection.send(None)
        self.process.join(5)
        self.kill()


def why_it_died(exitcode: int | None, killed_for_memory: bool) -> Reason:
    """The reason code of a process's end."""
    if exitcode == -signal.SIGKILL:
        return Reason.OUT_OF_MEMORY if killed_for_memory else Reason.WORKER_KILLED
    return Reason.WORKER_KILLED if exitcode == -signal.SIGTERM else Reason.WORKER_CRASHED


def memory_kills() -> int:
    """How many processes the kernel has killed for memory, as far as it tells: on this machine, and in this group."""
    total = 0
    for file in (Path("/proc/vmstat"), Path("/sys/fs/cgroup/memory.events")):
        with suppress(OSError, ValueError):
            for line in file.read_text().splitlines():
                name, _, value = line.partition(" ")
                total += int(value) if name == "oom_kill" else 0
    return total


def _serve(connection: Connection, job: Job, work: Work | None, index: int, threads: int | None) -> None:
    """The process: slides in, messages out, until it is let go."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent is told, and decides
    threading.Thread(target=_die_with_parent, daemon=True).start()
    lane = Lane(job, work, index, lambda *message: connection.send(message), threads=threads)
    with suppress(EOFError, OSError):
        connection.send(("ready", 0, None))
        while (row := connection.recv()) is not None:
            lane.give(row)
    lane.close()


def _die_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
