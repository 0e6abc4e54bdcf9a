"""What any engine does around the encoding of slides: claims, heartbeats, records, log, time left.

- An engine takes slides with ``claim``, has them encoded by :func:`hwsi.encoding.cohort.one.encode_one`, wherever that
  runs, and hands the outcomes to ``finish``. The table of states is then the same, whatever the engine.
- What is wrong with all slides (no weights, no room on the disk) ends the run: all that is not begun waits.
"""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, Protocol

from hwsi.encoding.cohort.claimer import BEAT_S
from hwsi.encoding.cohort.eta import Estimate, Tried, time_left
from hwsi.encoding.cohort.job import Job, Outcome, Row
from hwsi.encoding.cohort.log import Log
from hwsi.encoding.cohort.state import StateTable
from hwsi.errors import HwsiError, Reason

_TALLY_S = 10.0
_AT_ONCE_S = 1.0
"""Slides may end faster than it helps anybody to count them all."""
_ENDS = (Reason.DISK_FULL, Reason.OUTPUT_UNWRITABLE)


class Watcher(Protocol):
    """Anybody who wants to see a run; bars, in the command line."""

    def stage(self, worker: int, row: Row, stage: str, done: int, total: int | None) -> None:
        """How far a worker is with its slide."""

    def finished(self, worker: int, row: Row, outcome: Outcome) -> None:
        """What became of a slide."""

    def tally(self, counts: dict[str, int], left: Estimate | None) -> None:
        """State -> number of the chosen slides, and seconds left."""

    def note(self, text: str) -> None:
        """One line that a person should read."""


class Unseen:
    """Sees nothing."""

    def stage(self, worker: int, row: Row, stage: str, done: int, total: int | None) -> None:
        """Nothing."""

    def finished(self, worker: int, row: Row, outcome: Outcome) -> None:
        """Nothing."""

    def tally(self, counts: dict[str, int], left: Estimate | None) -> None:
        """Nothing."""

    def note(self, text: str) -> None:
        """Nothing."""


@dataclass
class Ledger:
    """The books of a run.

    Attributes:
        table: of states, with its slides chosen.
        job: how they are encoded.
        watch: who sees it.
        workers: how many slides are encoded at once.
        stop: an error that ends the run: nothing more is claimed.
    """

    table: StateTable
    job: Job
    watch: Watcher
    workers: int
    stop: HwsiError | None = None
    _log: Log = field(init=False)
    _tried: list[Tried] = field(default_factory=list)
    _stages: dict[int, str] = field(default_factory=dict)
    _running: dict[int, tuple[float, float]] = field(default_factory=dict)
    _told: float = 0.0

    def __post_init__(self) -> None:
        self._log = Log(self.job.out)
        self._patch_mm2 = (self.job.preset.patch_px * self.job.preset.read_mpp / 1000) ** 2

    @contextmanager
    def run(self) -> Iterator[None]:
        """From the first claim to the last record, with a heart that beats."""
        over = threading.Event()

        def beat() -> None:
            while not over.wait(BEAT_S):
                try:
                    self.table.beat(dict(self._stages))
                except HwsiError as error:  # a full disk: the run will hear of it by itself
                    self._log("no_heartbeat", message=str(error))

        heart = threading.Thread(target=beat, daemon=True)
        heart.start()
        self._log("run_started", preset=self.job.preset.name, workers=self.workers, **self.table.counts(chosen=True))
        try:
            self.tally()
            yield
            if self.stop is not None:
                raise self.stop
        finally:
            over.set()
            heart.join()
            with suppress(HwsiError):  # a table that cannot be read has ended the run
                self.tally()
            self._log("run_ended", **self.table.counts(chosen=True))

    def claim(self) -> Row | None:
        """The next slide, or None: none waits, or the run is being ended."""
        row = None if self.stop is not None else self.table.next()
        if row is not None:
            self._stages[row.id] = ""
            self._log("slide_started", slide=row.slide, attempt=row.attempts)
        return row

    def progress(self, worker: int, row: Row, stage: str, done: int, total: int | None) -> None:
        """How far a claimed slide is."""
        if stage in ("tissue", "regions"):
            self._stages[row.id] = stage if total in (None, 1) else f"{stage} {done}/{total}"
        if stage == "patches" and total:
            self._running[row.id] = (total * self._patch_mm2, done / total)
        self.watch.stage(worker, row, stage, done, total)
        if time.monotonic() - self._told > _TALLY_S:
            self.tally()

    def finish(self, worker: int, row: Row, outcome: Outcome) -> None:
        """Record what became of a claimed slide."""
        self._forget(row)
        self.table.record(row.id, outcome, self.job.preset.name)
        facts: dict[str, Any] = {"seconds": round(outcome.seconds, 3), "attempt": row.attempts}
        if outcome.reason is None:
            facts |= {"tissue_mm2": outcome.tissue_mm2, "written_bytes": outcome.written_bytes, "odd": outcome.odd}
        else:
            facts |= {"reason": outcome.reason, "message": outcome.message}
            facts |= {"trace": outcome.trace} if outcome.trace else {}
        self._log(f"slide_{outcome.state}", slide=row.slide, **facts)
        if outcome.reason is not None or outcome.tissue_mm2 is not None:  # what was whole says nothing of speed
            self._tried.append(Tried(row.size_bytes, outcome.tissue_mm2 or 0.0, outcome.seconds))
        self.watch.finished(worker, row, outcome)
        if outcome.reason in _ENDS and self.stop is None:
            what, _, todo = outcome.message.partition(" -> ")
            self.stop = HwsiError(outcome.reason, what, todo)
        if time.monotonic() - self._told > _AT_ONCE_S:
            self.tally()

    def give_back(self, row: Row, why: Reason) -> None:
        """Let a claimed slide wait again, since who had it died."""
        self._forget(row)
        self.table.give_back(row.id)
        self._log("slide_given_back", slide=row.slide, reason=why)

    def tally(self) -> None:
        """Tell the watcher how the run stands."""
        self._told = time.monotonic()
        left = time_left(self._tried, self.table.waiting(), list(self._running.values()), max(1, self.workers))
        self.watch.tally(self.table.counts(chosen=True), left)

    def _forget(self, row: Row) -> None:
        self._stages.pop(row.id, None)
        self._running.pop(row.id, None)
