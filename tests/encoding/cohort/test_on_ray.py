"""A cohort on a local Ray cluster: a worker is killed in the middle, nothing is lost, features are the same."""

import os
import signal
import threading
import time
from pathlib import Path

import cohort_fakes
import numpy as np
import pytest
from cohort_fakes import a_job, slides, work

from hwsi.encoding.cohort.manifest import Entry
from hwsi.encoding.cohort.runner import run_cohort
from hwsi.encoding.cohort.state import StateTable
from hwsi.features import read_features

ray = pytest.importorskip("ray")
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", autouse=True)
def _cluster():
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    ray.cloudpickle.register_pickle_by_value(cohort_fakes)
    yield
    ray.shutdown()


def run(tmp_path, words, encode=work, **options):
    from hwsi.encoding.cohort.on_ray import RayCluster

    job = a_job(tmp_path / "job")
    with StateTable(job.out, create=True) as table:
        table.enrol(job, [Entry(str(path)) for path in slides(tmp_path / "in", **words)])
        run_cohort(table, job, workers=2, engine=RayCluster(job, encode, 2, gpu=False), **options)
        return {row["name"]: row for row in table.rows()}


def test_what_breaks_is_a_row_whatever_the_engine(tmp_path):
    words = {"a": "fine", "broken": "broken", "bug": "bug", "hang": "hang", "crash": "crash"}
    rows = run(tmp_path, words, patience_s=4)
    assert {name: row["reason"] for name, row in rows.items()} == {
        "a": None, "broken": "slide_corrupt", "bug": "internal_error", "hang": "slide_hung", "crash": "worker_killed",
    }  # fmt: skip


def test_a_worker_is_killed_and_nothing_is_lost(tmp_path):
    seen = tmp_path / "job" / "seen"
    struck = []

    def strike():
        while not struck:
            for path in seen.glob("s*.*"):
                if path.name[0] != ".":
                    os.kill(int(path.name.split(".")[1]), signal.SIGKILL)
                    struck.append(path.name)
                    return
            time.sleep(0.05)

    thread = threading.Thread(target=strike)
    thread.start()
    rows = run(tmp_path, {f"s{i}": "slow" for i in range(6)})
    thread.join()
    assert {row["state"] for row in rows.values()} == {"done"}
    assert max(row["attempts"] for row in rows.values()) == 2
    for row in rows.values():
        assert (tmp_path / "job" / row["features"]).read_text() == "slow"
    # the killed worker had two at most: only these began twice
    assert len([p for p in seen.iterdir() if not p.name.startswith(".")]) <= 8


def test_features_are_those_of_one_machine_though_a_worker_is_killed(tmp_path):
    from hwsi.encoding.cohort.on_ray import RayCluster
    from hwsi.phantom.cohort import write_phantom
    from hwsi.phantom.spec import ORGAN_OF, Spec

    entries = []
    for i, diagnosis in enumerate(list(ORGAN_OF)[:4]):
        path = tmp_path / "slides" / f"p{i}.svs"
        write_phantom(path, Spec(70 + i, diagnosis, width_um=640, height_um=512))
        entries.append(Entry(str(path)))
    found = {}
    for name in ("here", "there"):
        job = a_job(tmp_path / name, device="cpu")
        with StateTable(job.out, create=True) as table:
            table.enrol(job, entries)
            if name == "here":
                run_cohort(table, job, workers=1)
            else:
                killer = threading.Thread(target=_kill_one, args=(job.out,))
                killer.start()
                run_cohort(table, job, workers=2, engine=RayCluster(job, None, 2, gpu=False))
                killer.join()
                assert max(row["attempts"] for row in table.rows()) > 1, "nobody was killed in the middle"
            rows = table.rows()
        assert {row["state"] for row in rows} == {"done"}
        found[name] = {row["name"]: read_features(job.out / row["features"]) for row in rows}
    for slide, here in found["here"].items():
        there = found["there"][slide]
        assert len(there.hierarchy.cells) == len(here.hierarchy.cells)
        # threads differ, and with them the last digits
        for scale in ("patch", "region", "slide"):
            for encoder, rows in getattr(here, scale).items():
                np.testing.assert_allclose(getattr(there, scale)[encoder], rows, rtol=1e-4, atol=1e-5)


def _kill_one(out: Path) -> None:
    """SIGKILL to an actor as soon as a slide is under way."""
    while not (out / "partial").is_dir():
        time.sleep(0.02)
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if b"ray::_Encoder" in (folder / "cmdline").read_bytes():
                os.kill(int(folder.name), signal.SIGKILL)
                return
        except OSError:
            continue
