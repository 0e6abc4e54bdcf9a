"""A run over a cohort on the terminal: bars while it lasts, lines for what failed, paths of what is done."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from hwsi.cli.console import note, one_line, out
from hwsi.errors import HwsiError, Reason

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from hwsi.encoding.cohort.eta import Estimate
    from hwsi.encoding.cohort.job import Job, Outcome, Row
    from hwsi.encoding.cohort.state import StateTable
    from hwsi.encoding.cohort.worker import Engine

ENGINES = ("local", "ray")
_LINES = 20


def run_and_tell(
    table: "StateTable", job: "Job", *, workers: int | None, timeout_s: float, engine: str = "local"
) -> None:
    """Encode what the table has chosen, and say what became of it.

    Args:
        table, job: what and how. workers: how many; None: one for each GPU, or one; on a cluster one for each node.
        timeout_s: without a word of a slide. engine: ``local`` or ``ray``.

    Errors: what ends a run; the reason of the first slide that failed.
    """
    from hwsi.encoding.cohort.runner import run_cohort
    from hwsi.encoding.cohort.summary import write_summary

    source, workers = _workers(job, workers, engine)
    try:
        with _bars() as bars:
            run_cohort(table, job, workers=workers, patience_s=timeout_s, watch=bars, engine=source)
    except HwsiError:
        with suppress(HwsiError):  # what ended the run is what matters
            write_summary(table)
        raise
    summary = write_summary(table)
    rows = table.rows(chosen=True)
    for row in rows:
        if row["state"] == "done":
            beside = [f"cells/{Path(row['features']).stem}.geojson"] if job.cells_geojson else []
            for name in (row["features"], *beside):
                out().print(str(job.out / name) if job.store is None else f"{job.store}/{name}", markup=False)
    failed = [row for row in rows if row["state"] == "failed"]
    before = [row for row in failed if row["id"] not in bars.told]
    for row in before[:_LINES]:
        note(f"hwsi: skipped {row['path']}: [{row['reason']}] {row['message']}")
    if len(before) > _LINES:
        note(f"hwsi: {len(before) - _LINES} more failed before and were not tried again: see hwsi status {job.out}")
    if failed:
        what = f"{len(failed)} of {len(rows)} slides were not encoded"
        raise HwsiError(Reason(failed[0]["reason"]), what, f"see the lines above and {summary}; the others are done")
    note(f"hwsi: all {len(rows)} slides are encoded")


def _workers(job: "Job", workers: int | None, engine: str) -> tuple["Engine | None", int]:
    """Where workers come from (None: this machine), and how many."""
    from hwsi.encoding.device import devices_of
    from hwsi.encoding.stack import is_small

    if engine not in ENGINES:
        raise HwsiError(Reason.OPTION_INVALID, f"there is no engine {engine!r}", f"take {' or '.join(ENGINES)}")
    small = is_small(job.preset)
    if engine == "local":
        return None, len(devices_of(job.device, small=small)) if workers is None else workers
    from hwsi.encoding.cohort.on_ray import RayCluster, gpus, nodes

    if workers == 0 or "," in job.device or ":" in job.device:
        what = "--workers 0" if workers == 0 else f"--device {job.device}"
        raise HwsiError(Reason.OPTION_INVALID, f"{what} is of this machine, not of a cluster", "leave it out")
    gpu = job.device == "cuda" or (job.device == "auto" and not small and gpus() > 0)
    if gpu and not gpus():
        raise HwsiError(Reason.OPTION_INVALID, "the cluster has no GPU", "take --device cpu, or auto")
    count = workers or (gpus() if gpu else nodes())
    return RayCluster(job, None, count, gpu=gpu), count


class _Bars:
    """One bar for the cohort, one for each worker."""

    def __init__(self, progress: "Progress") -> None:
        self._progress = progress
        self._whole = progress.add_task("slides", total=None, left="")
        self._workers: dict[int, TaskID] = {}
        self.told: set[int] = set()

    def stage(self, worker: int, row: "Row", stage: str, done: int, total: int | None) -> None:
        if stage == "cells":
            return
        if worker not in self._workers:
            self._workers[worker] = self._progress.add_task("", total=None, left="")
        name = one_line(Path(row.slide).name)
        self._progress.update(
            self._workers[worker], description=f"  {name[:28]}", completed=done, total=total, left=stage
        )

    def finished(self, worker: int, row: "Row", outcome: "Outcome") -> None:
        if outcome.reason is not None:
            self.told.add(row.id)
            self.note(f"skipped {row.slide}: [{outcome.reason.value}] {outcome.message}")

    def tally(self, counts: dict[str, int], left: "Estimate | None") -> None:
        from hwsi.encoding.cohort.eta import in_words

        done = counts["done"] + counts["failed"]
        self._progress.update(
            self._whole, completed=done, total=sum(counts.values()), left=f"{in_words(left)} left" if left else ""
        )

    def note(self, text: str) -> None:
        if self._progress.console.quiet:
            note(f"hwsi: {text}")
        else:  # above the bars
            self._progress.console.print(f"hwsi: {one_line(text)}", markup=False, soft_wrap=True)


@contextmanager
def _bars() -> Iterator[_Bars]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (
        TextColumn("{task.description:<30}", markup=False),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[left]}", markup=False),
    )
    console = Console(stderr=True, quiet=not sys.stderr.isatty(), highlight=False, emoji=False)
    with Progress(*columns, console=console) as progress:
        yield _Bars(progress)
