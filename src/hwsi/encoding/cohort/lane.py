"""What a worker does, wherever it runs: two slides at a time, and one set of models that they take in turns.

- While the models are at one slide, the next is fetched, opened, searched for tissue and read ahead, and the one before
  is written: models are idle only where reading cannot keep up with them.
- All that a worker has to tell goes through one function, so that a pipe or a cluster may carry it.
"""

import os
import sys
import threading
import time
import traceback
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

from hwsi.encoding.cohort.job import Job, Outcome, Row
from hwsi.encoding.turns import Place, Turns
from hwsi.errors import HwsiError, Reason

DEPTH = 2
"""Slides at a time: a third would only cost memory, since one can be read and another written beside the models."""

Work = Callable[..., Outcome]
"""As :func:`hwsi.encoding.cohort.one.encode_one`: (job, row, progress=, note=, worker=, turn=) -> outcome."""

Say = Callable[[str, int, Any], None]
"""(kind, id of the row, what): ``begun``, ``progress`` (stage, done, total), ``waits`` for the models (or no longer),
``note``, ``outcome``, ``fatal`` (what is wrong with all slides)."""


class Lane:
    """The slides of one worker.

    Args:
        job: how they are encoded.
        work: what encodes one.
        index: number of the worker; the first says how near a reduced precision is.
        say: is told what happens, from several threads, one call at a time.
        depth: how many slides at a time.
        threads: how many the models may use; None: all.
    """

    def __init__(
        self, job: Job, work: Work | None, index: int, say: Say, *, depth: int = DEPTH, threads: int | None = None
    ) -> None:
        if threads is not None:
            os.environ["OMP_NUM_THREADS"] = str(threads)  # torch reads it when it is imported, which is later
            if (torch := sys.modules.get("torch")) is not None:
                torch.set_num_threads(threads)
        self._job, self._work, self._index = job, work, index
        self._tell, self._telling = say, threading.Lock()
        self._turns, self._begun = Turns(), 0
        self._pool = ThreadPoolExecutor(depth, thread_name_prefix="slide")

    def give(self, row: Row) -> None:
        """Encode a slide as soon as fewer than ``depth`` are at work."""
        self._begun += 1
        self._pool.submit(self._encode, row, self._begun)

    def close(self) -> None:
        """Wait until all is told."""
        self._pool.shutdown()

    def _say(self, kind: str, row: Row, what: Any) -> None:
        with self._telling:
            self._tell(kind, row.id, what)

    def _encode(self, row: Row, number: int) -> None:
        started = time.perf_counter()
        place = Place(self._turns, number, partial(self._say, "waits", row))

        def progress(stage: str, done: int, total: int | None) -> None:
            self._say("progress", row, (stage, done, total))

        note = partial(self._say, "note", row) if self._index == 0 else None
        try:
            self._say("begun", row, None)
            encode = self._work or usual_work()
            outcome = encode(self._job, row, progress=progress, note=note, worker=self._index, turn=place)
        except HwsiError as error:
            self._say("fatal", row, error)
            return
        except Exception as error:
            what = f"{type(error).__name__}: {error}"
            bug = HwsiError(Reason.INTERNAL_ERROR, what, "please report it with its lines of log.jsonl")
            outcome = Outcome.failed(bug, time.perf_counter() - started, trace=traceback.format_exc())
        self._say("outcome", row, outcome)


def usual_work() -> Work:
    """What encodes a slide; imported where it runs, since the parent needs no torch."""
    from hwsi.encoding.cohort.one import encode_one

    return encode_one
