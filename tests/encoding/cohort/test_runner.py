"""A run: what breaks is one row, who dies is replaced, and what is wrong with all slides ends it."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from cohort_fakes import a_job, slides, work

from hwsi.encoding.cohort import runner
from hwsi.encoding.cohort.log import FILE
from hwsi.encoding.cohort.manifest import Entry
from hwsi.encoding.cohort.runner import run_cohort
from hwsi.encoding.cohort.state import StateTable
from hwsi.encoding.cohort.worker import why_it_died
from hwsi.errors import HwsiError, Reason


class Seen:
    def __init__(self):
        self.stages, self.outcomes, self.tallies, self.notes = [], [], [], []

    def stage(self, worker, row, stage, done, total):
        self.stages.append((worker, Path(row.slide).stem, stage, done, total))

    def finished(self, worker, row, outcome):
        self.outcomes.append((Path(row.slide).stem, outcome.reason))

    def tally(self, counts, left):
        self.tallies.append(counts)

    def note(self, text):
        self.notes.append(text)


def run(tmp_path, words, **options):
    """(rows by name, what was seen, events of the log)."""
    job, seen = a_job(tmp_path / "job"), Seen()
    entries = [Entry(str(path)) for path in slides(tmp_path / "in", **words)]
    with StateTable(job.out, create=True) as table:
        table.enrol(job, entries)
        try:
            run_cohort(table, job, work=work, watch=seen, **options)
        finally:
            rows = {row["name"]: row for row in table.rows()}
            events = [json.loads(line) for line in (job.out / FILE).read_text().splitlines()]
    return rows, seen, events


def reasons(rows):
    return {name: row["reason"] for name, row in rows.items()}


@pytest.mark.parametrize("workers", [0, 2])
def test_a_broken_slide_is_a_row_and_the_run_goes_on(tmp_path, workers):
    rows, seen, events = run(tmp_path, {"a": "fine", "b": "broken", "c": "odd"}, workers=workers)
    assert reasons(rows) == {"a": None, "b": "slide_corrupt", "c": None}
    assert rows["b"]["message"].endswith("is damaged -> copy it again")
    assert rows["c"]["odd"] == ["only a file of words"]
    assert rows["a"]["features"] == "features/a.h5"
    assert rows["a"]["versions"]["preset"] == "nano"
    assert seen.notes == ["the first"]
    assert seen.tallies[-1] == {"waiting": 0, "running": 0, "done": 2, "failed": 1}
    assert ("a", "patches", 10, 10) in [stage[1:] for stage in seen.stages]
    kinds = [event["event"] for event in events]
    assert (kinds[0], kinds[-1]) == ("run_started", "run_ended")
    assert kinds.count("slide_done") == 2
    assert next(e for e in events if e["event"] == "slide_failed")["reason"] == "slide_corrupt"


def test_crashes_hangs_and_bugs_have_their_reasons(tmp_path):
    words = {"bug": "bug", "hang": "hang", "once": "crash once"}
    rows, _, events = run(tmp_path, words, workers=1, patience_s=3)
    assert reasons(rows) == {"bug": "internal_error", "hang": "slide_hung", "once": None}
    assert rows["once"]["attempts"] == 2
    bug = next(e for e in events if e.get("reason") == "internal_error")
    assert "RuntimeError" in bug["trace"]
    assert "\n" not in rows["bug"]["message"]


@pytest.mark.slow
def test_a_slide_that_always_takes_its_process_along_fails(tmp_path):
    rows, _, _ = run(tmp_path, {"crash": "crash", "killed": "killed", "fine": "fine"}, workers=1)
    assert reasons(rows) == {"crash": "worker_crashed", "killed": "worker_killed", "fine": None}
    # a death in the company of another slide does not count
    assert rows["crash"]["attempts"] in (2, 3)
    assert rows["killed"]["attempts"] in (3, 4)


def test_no_weights_end_the_run_and_no_slide_is_blamed(tmp_path):
    with pytest.raises(HwsiError, match="weights_missing"):
        run(tmp_path, {"a": "no weights", "b": "fine"}, workers=1)
    with StateTable(tmp_path / "job") as table:
        assert next(row["state"] for row in table.rows()) == "waiting"
        # the slide in company may have come to its end by itself
        assert table.counts()["failed"] == table.counts()["running"] == 0


@pytest.mark.parametrize("workers", [0, 1])
def test_a_full_disk_ends_the_run_and_the_next_goes_on(tmp_path, workers):
    with pytest.raises(HwsiError, match=r"\[disk_full\] no room left -> free some space"):
        run(tmp_path, {"a": "fine", "b": "full", "c": "fine"}, workers=workers)
    with StateTable(tmp_path / "job") as table:
        assert [row["state"] for row in table.rows()] == ["done", "failed", "waiting"]
    rows = run(tmp_path, {"a": "fine", "b": "fine", "c": "fine"}, workers=workers)[0]
    assert set(reasons(rows).values()) == {None}


def test_two_processes_share_a_job(tmp_path):
    words = {f"s{i}": "slow" for i in range(4)}
    done = []
    threads = [
        threading.Thread(target=lambda: done.append(run(tmp_path, words, workers=0)[1].outcomes)) for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(name for outcomes in done for name, _ in outcomes) == ["s0", "s1", "s2", "s3"]
    assert all(len(outcomes) == 2 for outcomes in done)


RUN = """
import sys; sys.path.insert(0, sys.argv[1])
from pathlib import Path
from cohort_fakes import a_job, work
from hwsi.encoding.cohort.manifest import Entry
from hwsi.encoding.cohort.runner import run_cohort
from hwsi.encoding.cohort.state import StateTable
if __name__ == "__main__":
    job = a_job(Path(sys.argv[2]))
    with StateTable(job.out, create=True) as table:
        table.enrol(job, [Entry(slide) for slide in sys.argv[3:]])
        run_cohort(table, job, work=work)
"""


def test_workers_die_with_a_killed_run_and_the_next_takes_over(tmp_path):
    script = tmp_path / "run.py"
    script.write_text(RUN)
    paths = slides(tmp_path / "in", a="hang", b="fine")
    process = subprocess.Popen([sys.executable, script, Path(__file__).parent, tmp_path / "job", *paths])
    seen = tmp_path / "job" / "seen"
    deadline = time.monotonic() + 60
    while not (seen.is_dir() and list(seen.glob("a.*"))) and time.monotonic() < deadline:
        time.sleep(0.05)
    (worker,) = [int(path.name.split(".")[1]) for path in seen.glob("a.*") if path.name[0] != "."]
    process.send_signal(signal.SIGKILL)
    process.wait()
    while _lives(worker) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not _lives(worker)
    rows, _, _ = run(tmp_path, {"a": "fine", "b": "fine"}, workers=0)
    assert set(reasons(rows).values()) == {None}


def _lives(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().split(") ")[1][0] != "Z"
    except OSError:
        return False


def test_workers_that_cannot_even_begin_end_the_run(tmp_path, monkeypatch):
    monkeypatch.setattr(runner, "_FRUITLESS", 2)
    job = a_job(tmp_path / "job")
    with StateTable(job.out, create=True) as table:
        table.enrol(job, [Entry(str(p)) for p in slides(tmp_path / "in", a="fine", b="fine")])
        with pytest.raises(HwsiError, match="died as soon as they began"):
            run_cohort(table, job, work=_Unpicklable())
        assert table.counts()["failed"] == 0


class _Unpicklable:
    """Reaches the worker and ends it while it is unpacked."""

    def __reduce__(self):
        return (os._exit, (3,))


@pytest.mark.parametrize(
    ("exitcode", "memory", "reason"),
    [
        (-9, False, Reason.WORKER_KILLED),
        (-9, True, Reason.OUT_OF_MEMORY),
        (-15, True, Reason.WORKER_KILLED),
        (-11, True, Reason.WORKER_CRASHED),
        (1, False, Reason.WORKER_CRASHED),
    ],
)
def test_how_a_process_ended_says_why(exitcode, memory, reason):
    assert why_it_died(exitcode, memory) is reason
