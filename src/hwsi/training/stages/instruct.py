"""Stage 3, ``instruct``: questions and answers, projectors and language model.

- Conversations are learned whole, several about one slide in one row; reports may stand beside them.
- Each run has a task, such as a tissue type. A model that goes on from ``instruct`` keeps the tasks of the runs before:
  ``replay`` mixes their rows in, and their held-out patients are measured before and after (``continual.py``).
"""

from pathlib import Path
from typing import Any

from hwsi.errors import HwsiError, Reason
from hwsi.model.processor import HwsiProcessor
from hwsi.training.data.records import ConversationRecord, ReportRecord
from hwsi.training.data.rows import ConversationRows, ReportRows
from hwsi.training.stages.checkpoint import Given, StageRecord
from hwsi.training.stages.config import Data, InstructConfig
from hwsi.training.stages.continual import Replay, former_tasks
from hwsi.training.stages.material import Joined, Material, digests, open_store, read_split
from hwsi.training.stages.run import run_stage
from hwsi.training.stages.watch import Progress, silent


def gather_conversations(config: InstructConfig, processor: Any, given: Given, listing: Path | None) -> Material:
    """Rows of this task and of those before.

    Raises:
        HwsiError: DATA_MISSING, OPTION_INVALID (a task of this name was learned from other data), and as
            :func:`hwsi.training.stages.material.read_split`.
    """
    if not config.texts:
        todo = "name files of conversations, or of reports"
        raise HwsiError(Reason.DATA_MISSING, "no conversations are named (data.conversations)", todo)
    files = digests(config.data, config.texts)
    told: list[str] = []
    former = former_tasks(config, given)
    questions = config.batch.questions
    rows, val, notes = task_rows(config.data, processor, questions=questions, seed=config.seed, listing=listing)
    told += notes
    held_out, before = {config.task: val}, []
    for task, data in former.items():
        files |= digests(data, (*data.conversations, *data.reports))
        theirs, val, notes = task_rows(data, processor, questions=questions, seed=config.seed, listing=None)
        held_out[task] = val
        before.append(theirs)
        told += [f"{task}: {note}" for note in notes]
    learned = Joined([rows, Replay(Joined(before), rows, config.replay, config.seed)]) if config.replay else rows
    tasks = {config.task: config.data.model_dump(mode="json")}
    return Material(learned, held_out, tuple(told), files, tasks)


def task_rows(
    data: Data, processor: Any, *, questions: int, seed: int, listing: Path | None
) -> tuple[Joined, Joined, tuple[str, ...]]:
    """Rows of one task to learn from and to be measured on, and what the user must know of its data."""
    store = open_store(data)
    # with fusion 'resample' the slide's tokens stand before one dialogue
    per_row = questions if isinstance(processor, HwsiProcessor) else 1
    train: list[Any] = []
    val: list[Any] = []
    told: tuple[str, ...] = ()
    learn = {"augment": data.augment, "seed": seed}
    if data.conversations:
        split = read_split(ConversationRecord, data.conversations, data, store, processor, listing=listing)
        train.append(ConversationRows(split.train, store, processor, per_row=per_row, **learn))
        val.append(ConversationRows(split.val, store, processor, per_row=per_row))
        told += split.told
    if data.reports:
        reports = read_split(ReportRecord, data.reports, data, store, processor, listing=listing)
        train.append(ReportRows(reports.train, store, processor, **learn))
        val.append(ReportRows(reports.val, store, processor))
        told += reports.told
    return Joined(train), Joined(val), told


def run_instruct(config: InstructConfig, out: Path, *, progress: Progress = silent) -> StageRecord:
    """Train stage 3 into ``out``. Raises as :func:`hwsi.training.stages.run.run_stage`."""
    return run_stage(config, out, gather_conversations, progress=progress, measure_before=True)
