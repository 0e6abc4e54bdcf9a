"""The table of states: what waits, who has it, what stays done, what is taken up again."""

import os
import sqlite3
import subprocess
import sys

import pytest
from cohort_fakes import a_job, slides

from hwsi.encoding.cohort import claimer, state
from hwsi.encoding.cohort.job import Outcome
from hwsi.encoding.cohort.manifest import Entry
from hwsi.encoding.cohort.state import StateTable
from hwsi.errors import HwsiError, Reason


def entries(paths):
    return [Entry(str(path)) for path in paths]


def done(job, row):
    path = job.out / "features" / f"{row.id}.h5"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"whole")
    return Outcome(path, seconds=1.0, written_bytes=5, tissue_mm2=0.5)


def failed(reason):
    return Outcome.failed(HwsiError(reason, "what", "todo"), 0.5)


@pytest.fixture
def job(tmp_path):
    return a_job(tmp_path / "job")


@pytest.fixture
def files(tmp_path):
    return slides(tmp_path / "in", a="fine", b="fine", c="fine")


def states(table):
    return {row["name"]: row["state"] for row in table.rows()}


def test_slides_are_given_once_in_the_order_asked(job, files):
    with StateTable(job.out, create=True) as table:
        table.enrol(job, entries([files[2], files[0]]))
        names = [os.path.basename(table.next().slide) for _ in range(2)]
        assert names == ["c.svs", "a.svs"]
        assert table.next() is None
        assert states(table) == {"c": "running", "a": "running"}


def test_two_processes_never_have_the_same_slide(job, files):
    with StateTable(job.out, create=True) as one, StateTable(job.out) as other:
        for table in (one, other):
            table.enrol(job, entries(files))
        rows = [one.next(), other.next(), one.next(), other.next()]
        assert sorted(row.id for row in rows if row) == [1, 2, 3]
        assert one.others_run()
        # what another has cannot be recorded by one who lost it
        other_row = next(row for row in (rows[1],))
        one.record(other_row.id, done(job, other_row), "nano")
        assert one.counts()["done"] == 0


def test_slides_of_the_dead_are_taken_over(job, files):
    code = (
        "import os, sys; sys.path.insert(0, sys.argv[2]); from pathlib import Path; from cohort_fakes import a_job\n"
        "from hwsi.encoding.cohort.state import StateTable; from hwsi.encoding.cohort.manifest import Entry\n"
        "job = a_job(Path(sys.argv[1])); table = StateTable(job.out, create=True)\n"
        "table.enrol(job, [Entry(p) for p in sys.argv[3:]]); table.next(); os._exit(9)\n"
    )
    subprocess.run([sys.executable, "-c", code, job.out, os.path.dirname(__file__), *map(str, files[:1])], check=False)
    with StateTable(job.out) as table:
        assert states(table) == {"a": "running"}
        table.enrol(job, entries(files[:1]))
        assert table.others_run()
        row = table.next()
        assert row is not None
        assert row.attempts == 2


@pytest.mark.parametrize(("host", "silent_s", "dead"), [("another", 10, False), ("another", 1000, True)])
def test_of_another_host_only_silence_tells(host, silent_s, dead):
    import time

    assert claimer.is_dead(host, 1, time.time() - silent_s) is dead
    assert claimer.is_dead(claimer.here(), os.getpid(), time.time() - silent_s) is (silent_s > claimer.STALE_S)


def test_leaving_gives_back_what_was_claimed(job, files):
    with StateTable(job.out, create=True) as table:
        table.enrol(job, entries(files))
        table.next()
    with StateTable(job.out) as table:
        assert set(states(table).values()) == {"waiting"}


def test_what_is_done_stays_done_until_something_changes(job, files):
    with StateTable(job.out, create=True) as table:
        table.enrol(job, entries(files))
        rows = [table.next() for _ in files]
        for row in rows:
            table.record(row.id, done(job, row), "nano")
        assert table.counts() == {"waiting": 0, "running": 0, "done": 3, "failed": 0}
        table.enrol(job, entries(files))
        assert table.next() is None
        # a slide was scanned again, a file was lost, another was cut short
        files[0].write_text("scanned again")
        (job.out / "features" / f"{rows[1].id}.h5").unlink()
        (job.out / "features" / f"{rows[2].id}.h5").write_bytes(b"who")
        table.enrol(job, entries(files))
        assert set(states(table).values()) == {"waiting"}


def test_another_preset_or_resolution_is_asked_anew(job, files):
    with StateTable(job.out, create=True) as table:
        table.enrol(job, entries(files[:1]))
        row = table.next()
        table.record(row.id, done(job, row), "nano")
        table.enrol(job, [Entry(str(files[0]), mpp=0.25)])
        assert states(table) == {"a": "waiting"}
        row = table.next()
        assert row.mpp == 0.25
        table.record(row.id, done(job, row), "nano")
        other = a_job(job.out, cells_geojson=True)
        table.enrol(other, [Entry(str(files[0]), mpp=0.25)])
        assert states(table) == {"a": "waiting"}


def test_failures_that_may_pass_are_tried_again_and_others_on_demand(job, files):
    with StateTable(job.out, create=True) as table:
        table.enrol(job, entries(files))
        for reason in (Reason.SLIDE_CORRUPT, Reason.WORKER_KILLED, Reason.SLIDE_HUNG):
            table.record(table.next().id, failed(reason), "nano")
        table.enrol(job, entries(files))
        assert states(table) == {"a": "failed", "b": "waiting", "c": "failed"}
        assert table.retry(["slide_hung", "no_tissue"]) == [3]
        assert states(table) == {"a": "failed", "b": "waiting", "c": "waiting"}
        assert table.settings() == job


def test_of_two_slides_of_one_name_the_first_has_it(job, files, tmp_path):
    twin = slides(tmp_path / "other", a="fine")[0]
    with StateTable(job.out, create=True) as table:
        table.enrol(job, entries([files[0], twin]))
        kept, refused = table.rows()
        assert (kept["state"], refused["state"], refused["reason"]) == ("waiting", "failed", "features_mismatch")
        assert str(files[0]) in refused["message"]
        assert table.retry(["features_mismatch"])
        assert [row["state"] for row in table.rows()] == ["waiting", "failed"]


def test_names_that_are_no_text_come_back_as_they_were(job, tmp_path):
    path = tmp_path / os.fsdecode(b"caf\xe9.svs")
    path.write_text("fine")
    with StateTable(job.out, create=True) as table:
        table.enrol(job, [Entry(str(path), mask=path)])
        row = table.next()
        assert row.slide == str(path)
        assert row.mask == path
        assert table.rows()[0]["path"] == str(path)


def test_a_folder_without_a_job_and_a_damaged_table_are_told(tmp_path, job):
    with pytest.raises(HwsiError, match="job_missing"):
        StateTable(tmp_path)
    job.out.mkdir()
    (job.out / state.FILE).write_bytes(b"no table " * 1000)
    with pytest.raises(HwsiError, match="job_corrupt"):
        StateTable(job.out)
    (job.out / state.FILE).unlink()
    with sqlite3.connect(job.out / state.FILE) as db:
        db.execute("PRAGMA user_version = 99")
    with pytest.raises(HwsiError, match="another version"):
        StateTable(job.out)


def test_a_full_disk_is_told(job, files):
    with StateTable(job.out, create=True) as table:
        table._db.execute("PRAGMA max_page_count = 1")  # SQLite's own way to run out of room
        with pytest.raises(HwsiError, match="disk_full"):
            table.enrol(job, [Entry(f"/x/{'y' * 200}{i}.svs") for i in range(500)])
        assert table.rows() == []
