"""The table of states of a job: one row for each slide, in SQLite, so that nothing is lost whoever is killed.

- A claim is a transaction: of two processes that share a job one gets a slide. Who claims tells host and process and
  sends a heartbeat; slides of a claimer that died, or was silent for too long, are taken over.
- Two that take the same slide all the same (containers that share a host's name, a machine that slept) do no harm:
  encoding holds a lock of its own and ends in the same bytes.
- What was asked of a slide stands in its row. Asked again in the same way, a slide that is done stays done without
  being opened; asked in another way, or corrected, it waits again.
- SQLite's log is shared memory, so processes on several machines share a job only through an engine.
"""

import json
import os
import secrets
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import hwsi
from hwsi.encoding.cohort.claimer import here, is_dead
from hwsi.encoding.cohort.job import MAY_PASS, Job, Outcome, Row
from hwsi.encoding.cohort.manifest import Entry, slide_bytes
from hwsi.encoding.cohort.store import held
from hwsi.errors import HwsiError, Reason
from hwsi.features.atomic import told
from hwsi.slide import slide_name

FILE = "state.sqlite"
_VERSION = 1
_BUSY_S = 60.0
_SWITCHES = 50
_SCHEMA = """
CREATE TABLE IF NOT EXISTS job (key TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS slides (
    id INTEGER PRIMARY KEY,
    path UNIQUE NOT NULL,           -- text; bytes where a file's name is no text
    name TEXT NOT NULL,             -- of its feature file
    mpp REAL, patient TEXT NOT NULL, mask,
    asked TEXT NOT NULL,            -- digest of what was asked of it
    state TEXT NOT NULL,            -- waiting, running, done, failed
    stage TEXT NOT NULL DEFAULT '', -- of what is running
    attempts INTEGER NOT NULL DEFAULT 0,
    reason TEXT, message TEXT NOT NULL DEFAULT '',
    seconds REAL, tissue_mm2 REAL,
    slide_bytes INTEGER NOT NULL, written_bytes INTEGER,
    features TEXT, picture TEXT, odd TEXT NOT NULL DEFAULT '[]',
    versions TEXT NOT NULL DEFAULT '{}',
    claim TEXT, host TEXT, pid INTEGER, heartbeat REAL,
    changed REAL NOT NULL           -- seconds since 1970
);
CREATE INDEX IF NOT EXISTS slides_state ON slides (state);
"""


class StateTable:
    """The states of a job's slides; a context manager.

    Args:
        out: job folder.
        create: begin one where there is none.

    Raises:
        HwsiError: JOB_MISSING, JOB_CORRUPT, DISK_FULL, OUTPUT_UNWRITABLE.
    """

    def __init__(self, out: Path, *, create: bool = False) -> None:
        self.out, self.path = out, out / FILE
        if create:
            with told(self.path):
                out.mkdir(parents=True, exist_ok=True)
        elif not self.path.is_file():
            what = f"{out} holds no table of a cohort"
            raise HwsiError(Reason.JOB_MISSING, what, "name the folder that hwsi encode was given with --out")
        self.claim = secrets.token_hex(8)
        self._from = 0  # place of the first of the chosen slides that was not claimed yet
        self._lock = threading.RLock()
        with self._said():
            self._db = sqlite3.connect(self.path, timeout=_BUSY_S, isolation_level=None, check_same_thread=False)
            self._db.row_factory = sqlite3.Row
            version = int(self._db.execute("PRAGMA user_version").fetchone()[0])
            if version not in (0, _VERSION):
                what = f"{self.path} was written by another version of hwsi ({version})"
                raise HwsiError(Reason.JOB_CORRUPT, what, "use that version, or another --out")
            self._db.execute("PRAGMA synchronous = NORMAL")  # a power failure may take the last rows, not the table
            if version == 0:
                self._begin()
            self._db.execute("CREATE TEMP TABLE mine (place INTEGER PRIMARY KEY, id INTEGER UNIQUE)")

    def _begin(self) -> None:
        for attempt in range(_SWITCHES):  # SQLite does not wait when two processes switch at once
            try:
                self._db.execute("PRAGMA journal_mode = WAL")
                break
            except sqlite3.OperationalError:
                if attempt == _SWITCHES - 1:
                    raise
                time.sleep(0.1)
        with self._transaction():
            for statement in _SCHEMA.split(";\n"):
                self._db.execute(statement)
            self._db.execute(f"PRAGMA user_version = {_VERSION}")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with suppress(sqlite3.Error, HwsiError):
            self.release()
        self._db.close()

    # what is asked for

    def enrol(self, job: Job, entries: Sequence[Entry]) -> list[int]:
        """Enter slides and the job's settings; these slides are what :meth:`next` gives.

        Returns:
            Their ids, in order.
        """
        asked = [(e, job.asked(e.slide, e.mpp, e.mask), e.size_bytes or slide_bytes(e.slide)) for e in entries]
        size_of = self._size_here if job.store is None else held(job.store)
        with self._transaction():
            self._db.execute("INSERT OR REPLACE INTO job VALUES ('settings', ?)", (job.to_json(),))
            ids = [self._enter(*one, size_of) for one in asked]
        self.choose(ids)
        return ids

    def _enter(self, entry: Entry, asked: str, size: int, size_of: Callable[[str], int | None]) -> int:
        path, name = _stored(entry.slide), slide_name(Path(entry.slide))
        mask = None if entry.mask is None else _stored(str(entry.mask))
        found = self._db.execute("SELECT * FROM slides WHERE path = ?", (path,)).fetchone()
        if found is None:
            made = self._db.execute(
                "INSERT INTO slides (path, name, mpp, patient, mask, asked, state, slide_bytes, changed) "
                "VALUES (?, ?, ?, ?, ?, ?, 'waiting', ?, ?)",
                (path, name, entry.mpp, entry.patient, mask, asked, size, time.time()),
            )
            row = int(made.lastrowid or 0)
            self._refuse_namesake(row, name)
            return row
        row = int(found["id"])
        self._db.execute("UPDATE slides SET patient = ? WHERE id = ?", (entry.patient, row))
        if found["state"] != "running" and (found["asked"] != asked or self._again(found, size_of)):
            self._db.execute(
                "UPDATE slides SET mpp = ?, mask = ?, asked = ?, slide_bytes = ?, attempts = 0 WHERE id = ?",
                (entry.mpp, mask, asked, size, row),
            )
            self._wait(row)
            self._refuse_namesake(row, name)
        return row

    def _size_here(self, name: str) -> int | None:
        """Bytes of a feature file; None where there is none."""
        try:
            return (self.out / "features" / name).stat().st_size
        except OSError:
            return None

    def _again(self, row: sqlite3.Row, size_of: Callable[[str], int | None]) -> bool:
        """Whether a slide waits again though the same was asked: it was lost, or failed for what may have passed."""
        if row["state"] == "done":
            return bool(size_of(Path(row["features"]).name) != row["written_bytes"])
        return row["state"] == "failed" and row["reason"] in MAY_PASS

    def _refuse_namesake(self, row: int, name: str) -> None:
        """A name is the first slide's that came with it: outputs are called by it."""
        owner = self._db.execute("SELECT id, path FROM slides WHERE name = ? ORDER BY id LIMIT 1", (name,)).fetchone()
        if owner["id"] != row:
            self._db.execute(
                "UPDATE slides SET state = 'failed', reason = ?, message = ? WHERE id = ?",
                (
                    Reason.FEATURES_MISMATCH.value,
                    f"{os.fsdecode(owner['path'])} of this job has the same name -> rename one, or take another --out",
                    row,
                ),
            )

    def choose(self, ids: Iterable[int]) -> None:
        """Let these slides be what :meth:`next` gives, in this order."""
        with self._transaction():
            self._db.execute("DELETE FROM mine")
            self._db.executemany("INSERT OR IGNORE INTO mine VALUES (?, ?)", enumerate(ids))
            self._from = 0

    def retry(self, reasons: Sequence[str]) -> list[int]:
        """Let slides that failed for these reasons wait again. Returns their ids."""
        marks = ", ".join("?" * len(reasons))
        with self._transaction():
            found = self._db.execute(
                f"SELECT id, name FROM slides WHERE state = 'failed' AND reason IN ({marks}) ORDER BY id",
                tuple(reasons),
            ).fetchall()
            for row in found:
                self._db.execute("UPDATE slides SET attempts = 0 WHERE id = ?", (row["id"],))
                self._wait(row["id"])
                self._refuse_namesake(row["id"], row["name"])
        return [int(row["id"]) for row in found]

    def settings(self) -> Job:
        """How the job was last asked for. Raises HwsiError(JOB_CORRUPT)."""
        with self._said():
            found = self._db.execute("SELECT value FROM job WHERE key = 'settings'").fetchone()
        return Job.from_json(self.out, "" if found is None else found[0])

    # claims

    def next(self) -> Row | None:
        """Claim the next of the chosen slides that waits; None if none does."""
        with self._transaction():
            self._take_over()
            row = self._first_waiting() or (self._first_waiting(0) if self._from else None)
            if row is None:
                return None
            self._from = int(row["place"]) + 1
            now = time.time()
            self._db.execute(
                "UPDATE slides SET state = 'running', stage = '', attempts = attempts + 1, reason = NULL, "
                "message = '', claim = ?, host = ?, pid = ?, heartbeat = ?, changed = ? WHERE id = ?",
                (self.claim, here(), os.getpid(), now, now, row["id"]),
            )
        return Row(
            id=row["id"],
            slide=os.fsdecode(row["path"]),
            mpp=row["mpp"],
            mask=None if row["mask"] is None else Path(os.fsdecode(row["mask"])),
            size_bytes=row["slide_bytes"],
            attempts=row["attempts"] + 1,
        )

    def _first_waiting(self, start: int | None = None) -> sqlite3.Row | None:
        """The next of the chosen slides that waits; by default of those behind the last that was claimed.

        A claim does not look at all that is done: of a million slides that would be most of the driver's time.
        """
        found: sqlite3.Row | None = self._db.execute(
            "SELECT s.*, place FROM mine CROSS JOIN slides s USING (id) WHERE place >= ? AND state = 'waiting' "
            "ORDER BY place LIMIT 1",
            (self._from if start is None else start,),
        ).fetchone()
        return found

    def plenty(self, count: int) -> bool:
        """Whether at least so many of the chosen slides wait, behind the last that was claimed."""
        with self._said():
            found = self._db.execute(
                "SELECT 1 FROM mine CROSS JOIN slides USING (id) WHERE place >= ? AND state = 'waiting' "
                "LIMIT 1 OFFSET ?",
                (self._from, count - 1),
            ).fetchone()
        return found is not None

    def _take_over(self) -> None:
        held = self._db.execute(
            "SELECT DISTINCT claim, host, pid, max(heartbeat) AS heartbeat FROM slides WHERE state = 'running' "
            "AND claim != ? GROUP BY claim",
            (self.claim,),
        ).fetchall()
        for row in held:
            if is_dead(row["host"], row["pid"], row["heartbeat"]):
                ids = self._db.execute("SELECT id FROM slides WHERE claim = ? AND state = 'running'", (row["claim"],))
                for (row_id,) in ids.fetchall():
                    self._wait(row_id)

    def _wait(self, row: int) -> None:
        self._db.execute(
            "UPDATE slides SET state = 'waiting', stage = '', reason = NULL, message = '', claim = NULL, host = NULL, "
            "pid = NULL, heartbeat = NULL, changed = ? WHERE id = ?",
            (time.time(), row),
        )

    def others_run(self) -> bool:
        """Whether another process holds one of the chosen slides."""
        with self._said():
            found = self._db.execute(
                "SELECT 1 FROM mine JOIN slides s USING (id) WHERE state = 'running' AND claim != ? LIMIT 1",
                (self.claim,),
            ).fetchone()
        return found is not None

    def beat(self, stages: dict[int, str]) -> None:
        """Say that the claimer of these slides lives, and how far they are. Raises as all of this table does."""
        with self._transaction():
            for row, stage in stages.items():
                self._db.execute(
                    "UPDATE slides SET heartbeat = ?, stage = ? WHERE id = ? AND claim = ?",
                    (time.time(), stage, row, self.claim),
                )

    def give_back(self, row: int) -> None:
        """Let a claimed slide wait again: who had it died."""
        with self._transaction():
            self._wait(row)

    def release(self) -> None:
        """Let all claimed slides wait again."""
        with self._transaction():
            ids = self._db.execute("SELECT id FROM slides WHERE claim = ? AND state = 'running'", (self.claim,))
            for (row,) in ids.fetchall():
                self._wait(row)

    def record(self, row: int, outcome: Outcome, preset: str) -> None:
        """What became of a claimed slide; nothing, if another took it over meanwhile: that one will tell."""
        with self._transaction():
            self._db.execute(
                "UPDATE slides SET state = ?, stage = '', reason = ?, message = ?, seconds = ?, "
                "tissue_mm2 = coalesce(?, tissue_mm2), written_bytes = ?, features = ?, picture = ?, odd = ?, "
                "versions = ?, claim = NULL, host = NULL, pid = NULL, heartbeat = NULL, changed = ? "
                "WHERE id = ? AND claim = ?",
                (
                    outcome.state, outcome.reason, outcome.message, outcome.seconds, outcome.tissue_mm2,
                    outcome.written_bytes, self._inside(outcome.features), self._inside(outcome.picture),
                    json.dumps(outcome.odd), json.dumps({"hwsi": hwsi.__version__, "preset": preset}),
                    time.time(), row, self.claim,
                ),
            )  # fmt: skip

    def _inside(self, path: Path | None) -> str | None:
        return None if path is None else os.path.relpath(path, self.out)

    # what is known

    def counts(self, *, chosen: bool = False) -> dict[str, int]:
        """State -> number of slides, of all or of the chosen."""
        which = "mine JOIN slides USING (id)" if chosen else "slides"
        with self._said():
            found = self._db.execute(f"SELECT state, count(*) FROM {which} GROUP BY state").fetchall()
        return {"waiting": 0, "running": 0, "done": 0, "failed": 0} | dict(found)

    def waiting(self) -> tuple[int, int]:
        """How many of the chosen slides wait, and the bytes of their files."""
        with self._said():
            count, total = self._db.execute(
                "SELECT count(*), coalesce(sum(slide_bytes), 0) FROM mine JOIN slides USING (id) "
                "WHERE state = 'waiting'"
            ).fetchone()
        return int(count), int(total)

    def rows(self, *, chosen: bool = False) -> list[dict[str, Any]]:
        """All columns of all slides, or of the chosen in their order; ``odd`` and ``versions`` are unpacked."""
        which = "mine JOIN slides s USING (id) ORDER BY place" if chosen else "slides s ORDER BY id"
        with self._said():
            found = self._db.execute(f"SELECT s.* FROM {which}").fetchall()
        return [_unpacked(dict(row)) for row in found]

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        with self._said():
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
            except BaseException:
                with suppress(sqlite3.Error):
                    self._db.execute("ROLLBACK")
                raise
            self._db.execute("COMMIT")

    @contextmanager
    def _said(self) -> Iterator[None]:
        """Turns what SQLite says into what the user can do; one thread at a time, since a connection has one state."""
        try:
            with self._lock:
                yield
        except sqlite3.Error as error:
            code = getattr(error, "sqlite_errorcode", 0) & 0xFF
            if code == sqlite3.SQLITE_FULL:
                raise HwsiError(Reason.DISK_FULL, f"no room left to write {self.path}", "free some space") from error
            if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
                what = f"{self.path} is damaged ({error})"
                todo = "remove it and run hwsi encode again: what is encoded is found, not made again"
                raise HwsiError(Reason.JOB_CORRUPT, what, todo) from error
            if code == sqlite3.SQLITE_ERROR:  # a statement of ours is wrong
                raise
            what = f"cannot write {self.path}: {error}"
            raise HwsiError(Reason.OUTPUT_UNWRITABLE, what, "choose another --out") from error


def _stored(path: str) -> str | bytes:
    """As text, or as bytes where a file's name is no text."""
    try:
        path.encode()
    except UnicodeEncodeError:
        return os.fsencode(path)
    return path


def _unpacked(row: dict[str, Any]) -> dict[str, Any]:
    decoded = {key: None if row[key] is None else os.fsdecode(row[key]) for key in ("path", "mask")}
    return row | decoded | {key: json.loads(row[key]) for key in ("odd", "versions")}
