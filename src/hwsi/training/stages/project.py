"""Stage 2, ``project``: the projectors learn to speak to the language model.

- From the report and the caption of each slide, asked for as at inference; nothing else changes by default.
- Starts from ``align``, whose CCAF and encoders above the pixels have learned what tissue the words mean.
"""

from pathlib import Path
from typing import Any

from hwsi.errors import HwsiError, Reason
from hwsi.training.data.records import ReportRecord
from hwsi.training.data.rows import ReportRows
from hwsi.training.stages.checkpoint import Given, StageRecord
from hwsi.training.stages.config import ProjectConfig
from hwsi.training.stages.material import Material, digests, open_store, read_split
from hwsi.training.stages.run import run_stage
from hwsi.training.stages.watch import Progress, silent


def gather_reports(config: ProjectConfig, processor: Any, given: Given, listing: Path | None) -> Material:
    """Reports and captions.

    Raises:
        HwsiError: DATA_MISSING, and as :func:`hwsi.training.stages.material.read_split`.
    """
    data = config.data
    if not config.texts:
        raise HwsiError(Reason.DATA_MISSING, "no reports are named (data.reports)", "name a JSONL or CSV of reports")
    files = digests(data, config.texts)
    store = open_store(data)
    split = read_split(ReportRecord, config.texts, data, store, processor, listing=listing)
    rows = ReportRows(split.train, store, processor, augment=data.augment, seed=config.seed)
    return Material(rows, {"reports": ReportRows(split.val, store, processor)}, split.told, files)


def run_project(config: ProjectConfig, out: Path, *, progress: Progress = silent) -> StageRecord:
    """Train stage 2 into ``out``. Raises as :func:`hwsi.training.stages.run.run_stage`."""
    return run_stage(config, out, gather_reports, progress=progress)
