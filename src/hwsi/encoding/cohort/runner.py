"""A run over a cohort: claims slides, has them encoded, records what became of each.

- Workers by default, so that a crash, a hang or a lack of memory is one row: processes of this machine, or of a
  cluster; what is done about them is the same. With none, slides are encoded in this process, one after the other: for
  a few slides, for notebooks and debuggers.
- A worker has two slides, so that its models never wait for reading; no more are claimed than workers can hold.
- Who dies is replaced. Whether its slide is to blame is judged by how often it happens while the slide is alone with
  its worker: of two that were there when one died neither is blamed, but each goes on by itself.
- The run ends when no chosen slide waits or is at work in another process: of a process that died meanwhile, its
  slides are taken over.
"""

import time
from collections import Counter, deque
from dataclasses import dataclass, field
from typing import Any

from hwsi.encoding.cohort.job import Job, Outcome, Row
from hwsi.encoding.cohort.lane import DEPTH, Work, usual_work
from hwsi.encoding.cohort.ledger import Ledger, Unseen, Watcher
from hwsi.encoding.cohort.state import StateTable
from hwsi.encoding.cohort.worker import Death, Engine, Processes, Worker
from hwsi.errors import HwsiError, Reason

PATIENCE_S = 1800.0
"""A slide of which nothing was heard for so long hangs. One region of a large preset takes minutes on a CPU."""
_START_S = 600.0
"""What a process may take to start."""
_DEATHS = {Reason.WORKER_KILLED: 3, Reason.WORKER_CRASHED: 2, Reason.OUT_OF_MEMORY: 1}
"""How often a worker may die of a slide in one run before the slide has failed."""
_FRUITLESS = 6
"""So many workers that die one after the other without a word do not die of their slides."""
_TOLD = {
    Reason.WORKER_KILLED: "the process that encoded it was killed",
    Reason.WORKER_CRASHED: "the process that encoded it crashed",
    Reason.OUT_OF_MEMORY: "the process that encoded it was killed for lack of memory",
}
_TODO = {
    Reason.WORKER_KILLED: "run again",
    Reason.WORKER_CRASHED: "the file may be damaged: copy or scan it again",
    Reason.OUT_OF_MEMORY: "run again with fewer --workers",
}


def run_cohort(
    table: StateTable,
    job: Job,
    *,
    workers: int = 1,
    patience_s: float = PATIENCE_S,
    work: Work | None = None,
    watch: Watcher | None = None,
    engine: Engine | None = None,
) -> None:
    """Encode the slides that the table has chosen.

    Args:
        table: with its slides enrolled or chosen.
        job: how.
        workers: how many encode; 0: this process does.
        patience_s: a slide of which nothing is heard for so long fails as ``slide_hung``, and its worker is ended.
        work: encodes a slide; by default :func:`hwsi.encoding.cohort.one.encode_one`.
        watch: sees it.
        engine: where workers come from; by default they are processes of this machine.

    Raises:
        HwsiError: what is wrong with all slides: no weights, encoders that do not fit, DISK_FULL, OUTPUT_UNWRITABLE.
    """
    ledger = Ledger(table, job, watch or Unseen(), workers)
    with ledger.run():
        if workers == 0:
            _run_here(ledger, work)
        else:
            source = engine or Processes(job, work, workers, max(patience_s, _START_S))
            _Pool(ledger, source, workers, patience_s).run()


def _run_here(ledger: Ledger, work: Work | None) -> None:
    encode = work or usual_work()
    note: Any = ledger.watch.note
    while ledger.stop is None:
        row = ledger.claim()
        if row is not None:

            def progress(stage: str, done: int, total: int | None, row: Row = row) -> None:
                ledger.progress(0, row, stage, done, total)

            outcome = encode(ledger.job, row, progress=progress, note=note, worker=0)
            note = None
            ledger.finish(0, row, outcome)
        elif ledger.table.others_run():
            time.sleep(1)
        else:
            return


@dataclass
class _Held:
    """A slide that a worker has: since when, when it was last heard of, and whether it waits for the models."""

    row: Row
    began: float
    heard: float
    waits: bool = False


@dataclass
class _Place:
    """A place for a worker; who is there, with its slides by their ids."""

    index: int
    worker: Worker
    held: dict[int, _Held] = field(default_factory=dict)
    ready: bool = False
    started: float = field(default_factory=time.monotonic)


class _Pool:
    """Workers, and slides for them."""

    def __init__(self, ledger: Ledger, engine: Engine, workers: int, patience_s: float) -> None:
        self._ledger, self._engine, self._patience_s = ledger, engine, patience_s
        self._deaths: Counter[int] = Counter()
        self._suspects: set[int] = set()
        self._alone = deque[Row]()  # claimed, and to be given to a worker that has nothing else
        self._fruitless = 0
        self._places: list[_Place | None] = [None] * workers

    def run(self) -> None:
        """Until nothing is left."""
        try:
            while self._hand_out():
                self._listen()
            for place in self._taken():
                place.worker.dismiss()
        finally:
            for place in self._taken():
                place.worker.kill()

    def _taken(self) -> list[_Place]:
        return [place for place in self._places if place is not None]

    def _hand_out(self) -> bool:
        """Give slides to workers that have room; False when the run is over.

        Every worker gets one before any gets a second, and none does when so few are left that a second one would wait
        behind the first while another worker has nothing to do.
        """
        for depth in range(DEPTH):
            for i, place in enumerate(self._places):
                if place is None or len(place.held) == depth:
                    row = self._next(place, depth)
                    if row is not None:
                        self._give(i, row)
        busy = any(place.held for place in self._taken()) or bool(self._alone)
        return busy or (self._ledger.stop is None and self._ledger.table.others_run())

    def _next(self, place: _Place | None, depth: int) -> Row | None:
        if depth == 0:
            if not self._alone:
                return self._ledger.claim()
            if self._ledger.stop is None:
                return self._alone.popleft()
            self._ledger.give_back(self._alone.popleft(), self._ledger.stop.reason)
            return None
        if place is None or self._suspects & place.held.keys() or not self._ledger.table.plenty(len(self._places)):
            return None
        row = self._ledger.claim()
        if row is not None and row.id in self._suspects:
            self._alone.append(row)
            return None
        return row

    def _give(self, i: int, row: Row) -> None:
        place = self._places[i]
        if place is None:
            place = self._places[i] = _Place(i, self._engine.start(i))
        now = time.monotonic()
        place.held[row.id] = _Held(row, now, now)
        place.worker.give(row)

    def _listen(self) -> None:
        if taken := self._taken():
            self._engine.wait([place.worker for place in taken], 1.0)
        else:
            time.sleep(1.0)
        for place in taken:
            death = place.worker.death()  # asked first: what it said before it died is still read
            for kind, row_id, what in place.worker.messages():
                self._heed(place, kind, row_id, what)
            if death is not None:
                self._bury(place, death)
            else:
                self._look_for_hanging(place)

    def _heed(self, place: _Place, kind: str, row_id: int, what: Any) -> None:
        if not place.ready:  # what it was given before counts from now
            place.ready = True
            for given in place.held.values():
                given.heard = time.monotonic()
        held = place.held.get(row_id)
        if held is None:  # it is ready, and says no more
            return
        if kind != "begun":
            self._fruitless = 0
        held.heard = time.monotonic()
        if kind == "fatal":
            self._ledger.stop = self._ledger.stop or what
            self._ledger.give_back(place.held.pop(row_id).row, what.reason)
        elif kind == "note":
            self._ledger.watch.note(what)
        elif kind == "waits":
            held.waits = what
        elif kind == "progress":
            self._ledger.progress(place.index, held.row, *what)
        elif kind == "outcome":
            del place.held[row_id]
            self._ledger.finish(place.index, held.row, what)

    def _bury(self, place: _Place, death: Death) -> None:
        self._places[place.index] = None
        place.worker.kill()
        if not place.held:
            return
        self._fruitless += 1
        if self._fruitless >= _FRUITLESS and self._ledger.stop is None:
            what = f"{self._fruitless} workers died as soon as they began ({death.how})"
            self._ledger.stop = HwsiError(death.why, what, "run with --workers 0 to see why")
        if self._ledger.stop is not None or len(place.held) > 1:
            self._part(place, death.why)
            return
        (held,) = place.held.values()
        self._suspects.add(held.row.id)
        self._deaths[held.row.id] += 1
        if self._deaths[held.row.id] < _DEATHS[death.why]:
            self._ledger.give_back(held.row, death.why)
        else:
            error = HwsiError(death.why, f"{_TOLD[death.why]} ({death.how}): {held.row.slide}", _TODO[death.why])
            self._ledger.finish(place.index, held.row, Outcome.failed(error, time.monotonic() - held.began))

    def _part(self, place: _Place, why: Reason) -> None:
        """Let the slides of a worker that is gone wait again; from now on each goes by itself."""
        for held in place.held.values():
            self._suspects.add(held.row.id)
            self._ledger.give_back(held.row, why)

    def _look_for_hanging(self, place: _Place) -> None:
        now = time.monotonic()
        for held in list(place.held.values()):
            if place.ready:
                hangs = not held.waits and now - held.heard > self._patience_s
            else:
                hangs = now - place.started > place.worker.starts_within_s
            if hangs:
                self._end_hanging(place, held.row)
                return

    def _end_hanging(self, place: _Place, row: Row) -> None:
        self._places[place.index] = None
        place.worker.kill()
        began = place.held.pop(row.id).began
        what = f"nothing was heard of {row.slide} for {self._patience_s:g} s"
        error = HwsiError(Reason.SLIDE_HUNG, what, "if it is only slow, run again with a longer --timeout")
        self._ledger.finish(place.index, row, Outcome.failed(error, time.monotonic() - began))
        for held in place.held.values():  # that had nothing to do with it
            self._ledger.give_back(held.row, Reason.SLIDE_HUNG)
