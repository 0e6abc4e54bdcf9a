"""What a run says on the way: ``log.jsonl``, progress, and the mark of a whole checkpoint.

- A line of the log is one JSON object; its figures are means over the steps since the line before.
- A run that goes on from a checkpoint first takes back the lines after it, so that every step stands there once.
"""

import json
import time
from pathlib import Path
from typing import Any, Protocol

from transformers import TrainerCallback

from hwsi.features.atomic import told, write_atomic
from hwsi.training.stages.checkpoint import MARK

LOG = "log.jsonl"
_LEFT_OUT = ("total_flos", "epoch", "train_runtime", "train_samples_per_second", "train_steps_per_second")


class Progress(Protocol):
    """Anything that can be told how far a run is."""

    def __call__(self, stage: str, done: int, total: int | None) -> None:
        """``done`` of ``total`` steps."""
        ...


def silent(stage: str, done: int, total: int | None) -> None:
    """Tells nobody."""


class Watcher(TrainerCallback):
    """Writes the log, marks checkpoints, tells progress; on the first process alone.

    Args:
        out: folder of the run. stage: its name. progress: who is told. since: step that the run goes on from.
    """

    def __init__(self, out: Path, stage: str, progress: Progress, since: int) -> None:
        self._log, self._stage, self._progress = out / LOG, stage, progress
        self._start, self._since = time.monotonic(), since

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Take back what was logged after the checkpoint."""
        if state.is_world_process_zero:
            kept = [line for line in read_log(self._log) if line["step"] <= self._since]
            write_atomic(self._log, "".join(json.dumps(line) + "\n" for line in kept).encode())

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """One step more."""
        if state.is_world_process_zero:
            self._progress(self._stage, state.global_step, state.max_steps)

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        """One line more."""
        if not state.is_world_process_zero:
            return
        figures = {name: value for name, value in (logs or {}).items() if name not in _LEFT_OUT}
        seconds = round(time.monotonic() - self._start, 3)
        with told(self._log), self._log.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"step": state.global_step, **figures, "seconds": seconds}) + "\n")

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """All of the checkpoint is there."""
        if state.is_world_process_zero:
            write_atomic(Path(args.output_dir) / f"checkpoint-{state.global_step}" / MARK, b"")


def read_log(path: Path) -> list[dict[str, Any]]:
    """The lines of a log; the last one may have been cut by a kill, and is left out then."""
    lines = []
    for line in path.read_text("utf-8").splitlines() if path.is_file() else []:
        try:
            lines.append(json.loads(line))
        except ValueError:
            break
    return lines
