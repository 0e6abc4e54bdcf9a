"""``hwsi retry``: slides of a job that failed, once more."""

from pathlib import Path
from typing import Annotated

import typer

from hwsi.cli.cohort import run_and_tell
from hwsi.cli.console import note
from hwsi.cli.options import EngineOpt, TimeoutOpt, WorkersOpt
from hwsi.errors import HwsiError, Reason


def retry(
    job_dir: Annotated[Path, typer.Argument(metavar="JOB", help="Job folder of hwsi encode.")],
    reason: Annotated[
        list[str], typer.Option("--reason", help="Which failures, by their code as hwsi status shows it; repeatable.")
    ],
    workers: WorkersOpt = None,
    timeout: TimeoutOpt = 1800.0,
    engine: EngineOpt = "local",
) -> None:
    """Encode the slides of a job again that failed for a reason, as the job was asked for last."""
    from hwsi.encoding.cohort.state import StateTable

    unknown = sorted(set(reason) - {known.value for known in Reason})
    if unknown:
        what = f"there is no reason {', '.join(unknown)}"
        raise HwsiError(Reason.OPTION_INVALID, what, "hwsi status JOB shows those of the job")
    with StateTable(job_dir) as table:
        job = table.settings()
        ids = table.retry(reason)
        if not ids:
            note(f"hwsi: no slide of {job_dir} failed for {', '.join(reason)}")
            return
        table.choose(ids)
        run_and_tell(table, job, workers=workers, timeout_s=timeout, engine=engine)
