"""What a stage was given and what it gives.

- A finished stage is a folder ``OUT`` with ``OUT/model/`` (what ``hwsi.load`` reads) and ``OUT/stage.json``, written
  last: stage, configuration, the weights it started from and gave (SHA-256 of the files), all stages before, versions,
  data, figures.
- The next stage refuses to start without the former one, or if the weights in the folder are not those that
  ``stage.json`` names.
- Loading is strict, and before the first step :func:`prove` compares every weight in memory with the files, one by
  one: a projector that was dropped on the way and drawn anew would otherwise train without a word.
- A checkpoint to go on from counts only with its mark, which is written when all the rest of it is there.
"""

import hashlib
import json
import platform
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from safetensors import safe_open
from torch import Tensor

from hwsi.errors import HwsiError, Reason
from hwsi.features.atomic import told, write_atomic
from hwsi.model.released import is_released

STAGE_FILE = "stage.json"
MARK = "whole"
_PACKAGES = ("hwsi", "torch", "transformers", "accelerate", "peft", "safetensors", "numpy")
_WEIGHTS = ("*.safetensors", "*.bin", "*.pt")
_CHUNK = 1 << 24


class Ancestor(BaseModel):
    """A stage that came before: its name and the weights that it gave."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    stage: str
    sha256: str


class StageRecord(BaseModel):
    """``stage.json``.

    Attributes:
        stage: name; ``config``: all its settings.
        started_from: the folder as it was given. given: its stage (``external``: unknown) and weights.
        gave: SHA-256 of the weights in ``model/``.
        parents: all stages before, the first one first, the given one last.
        tasks: what was learned so far: name -> the ``data`` settings, for replay and forgetting.
        data: file -> SHA-256 of what was learned from.
        metrics: figures on held-out patients, and what the run says of itself.
        versions: of the packages. notes: what the user must know of the data, such as records that were left out.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", validate_by_name=True, validate_by_alias=True)

    schema_: Literal["hwsi.stage/1"] = Field(default="hwsi.stage/1", alias="schema")
    stage: str
    config: dict[str, Any]
    started_from: str
    given: Ancestor
    gave: str
    parents: tuple[Ancestor, ...]
    seed: int
    steps: int
    tasks: dict[str, Any] = {}
    data: dict[str, str] = {}
    metrics: dict[str, Any] = {}
    versions: dict[str, str] = {}
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Given:
    """A model to start from.

    Attributes:
        folder: as it was given. model: where its weights lie.
        ancestor: its stage and weights. parents: of itself, the first stage first.
        tasks: what it has learned, by name.
    """

    folder: Path
    model: Path
    ancestor: Ancestor
    parents: tuple[Ancestor, ...] = ()
    tasks: Mapping[str, Any] | None = None

    @property
    def lineage(self) -> tuple[Ancestor, ...]:
        """All stages up to this one."""
        return (*self.parents, self.ancestor)


def open_given(start: Path | None, former: str) -> Given:
    """The model that a stage starts from, with proof that it is what its stage wrote.

    Args:
        start: output folder of a stage; of ``external`` also a bare model's folder, ours or the release's.
        former: which stage it has to be, or ``external`` for any.

    Raises:
        HwsiError: STAGE_MISSING (no such folder, no finished stage in it, another stage), WEIGHTS_MISSING,
            WEIGHTS_MISMATCH (the weights are not those that the stage gave, or its record is damaged).
    """
    if start is None:
        what = f"there is no model to start from: stage '{former}' comes before this one"
        raise HwsiError(Reason.STAGE_MISSING, what, f"run hwsi train {former}, and name its output folder as 'start'")
    if not start.is_dir():
        raise HwsiError(Reason.STAGE_MISSING, f"there is no folder {start} to start from", "name a stage's output")
    if not (start / STAGE_FILE).is_file():
        return _external(start, former)
    record = read_record(start)
    if former not in (record.stage, "external"):
        what = f"{start} holds stage '{record.stage}', this one starts from stage '{former}'"
        raise HwsiError(Reason.STAGE_MISSING, what, "name the right folder, or set 'former' to start from another")
    found = files_sha256(start / "model")
    if found != record.gave:
        what = f"the weights in {start / 'model'} ({found[:12]}) are not those of its stage.json ({record.gave[:12]})"
        raise HwsiError(Reason.WEIGHTS_MISMATCH, what, "restore the folder, or run that stage again")
    return Given(start, start / "model", Ancestor(stage=record.stage, sha256=found), record.parents, record.tasks)


def _external(start: Path, former: str) -> Given:
    if former != "external":
        what = f"{start} holds no finished stage (no {STAGE_FILE}); this one starts from stage '{former}'"
        todo = f"run hwsi train {former} first; set former to external to start from a model of unknown training"
        raise HwsiError(Reason.STAGE_MISSING, what, todo)
    return Given(start, start, Ancestor(stage="external", sha256=files_sha256(start)))


def read_record(folder: Path) -> StageRecord:
    """``stage.json`` of a finished stage. Raises HwsiError(WEIGHTS_MISMATCH) if it is damaged."""
    file = folder / STAGE_FILE
    try:
        return StageRecord.model_validate_json(file.read_text("utf-8"))
    except (ValidationError, UnicodeDecodeError, OSError) as error:
        what = f"{file} is damaged: {error}"
        raise HwsiError(Reason.WEIGHTS_MISMATCH, what, "restore it, or run the stage again") from error


def files_sha256(folder: Path) -> str:
    """Digest of the weight files of a model's folder, by name and content.

    Raises:
        HwsiError: WEIGHTS_MISSING.
    """
    files = sorted({path for pattern in _WEIGHTS for path in folder.glob(pattern)})
    if not files:
        raise HwsiError(Reason.WEIGHTS_MISSING, f"there are no weights in {folder}", "name a saved model's folder")
    digest = hashlib.sha256()
    for path in files:
        digest.update(f"{path.name} {path.stat().st_size} ".encode())
        _update(digest, path)
    return digest.hexdigest()


def file_sha256(path: Path) -> str:
    """Digest of one file."""
    digest = hashlib.sha256()
    _update(digest, path)
    return digest.hexdigest()


def _update(digest: Any, path: Path) -> None:
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)


def prove(state: Mapping[str, Tensor], given: Given) -> int:
    """See that the weights in memory are those in the files, to the last bit (in the dtype that they have here).

    Weights that were added on top (LoRA) are not looked at; what adapters wrapped is found under its own name.

    Args:
        state: of the model as it will be trained, every weight whole. given: what it was loaded from.

    Returns:
        How many weights were compared; 0 for the release's pickles, whose strict loading stands for itself.

    Raises:
        HwsiError: WEIGHTS_MISMATCH (which differ).
    """
    if is_released(given.model):
        return 0
    here = {_plain_name(name): value for name, value in state.items() if _is_base(name)}
    wrong, seen = [], 0
    for path in sorted(given.model.glob("*.safetensors")):
        with safe_open(path, framework="pt") as file:
            for name in file.keys():  # noqa: SIM118 (it is no mapping)
                mine = here.get(name)
                if mine is None or not torch.equal(mine.cpu(), file.get_tensor(name).to(mine.dtype)):
                    wrong.append(name)
                seen += 1
    if wrong or not seen:
        what = f"{len(wrong)} of {seen} weights in memory are not those of {given.model}: {', '.join(wrong[:3])}"
        raise HwsiError(Reason.WEIGHTS_MISMATCH, what, "start again; if it comes back, it is a bug: please report it")
    return seen


def _is_base(name: str) -> bool:
    return ".lora_" not in name and ".original_module." not in name


def _plain_name(name: str) -> str:
    """A weight's name without what PEFT puts around it; of a module that it copied, the copy that learns."""
    name = name.removeprefix("base_model.model.").replace(".base_layer.", ".")
    return name.replace(".modules_to_save.default.", ".")


def write_model(model: Any, processor: Any, out: Path) -> str:
    """Write ``out/model``, whole or not at all; returns the digest of its weights."""
    part, target = out / ".model.part", out / "model"
    with told(target):
        shutil.rmtree(part, ignore_errors=True)
        model.save_pretrained(part)
        processor.save_pretrained(part)
        shutil.rmtree(target, ignore_errors=True)
        part.replace(target)
    return files_sha256(target)


def write_record(record: StageRecord, out: Path) -> None:
    """Write ``out/stage.json``: from now on the stage is finished."""
    write_atomic(out / STAGE_FILE, (record.model_dump_json(indent=2, by_alias=True) + "\n").encode())


def versions() -> dict[str, str]:
    """Of the packages that decide what a run gives."""
    found = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def claim(out: Path, key: Mapping[str, Any]) -> Path | None:
    """Make an output folder this run's, and find where to go on.

    Args:
        out: new, or of the same run that was stopped.
        key: all that the run depends on; plain JSON data.

    Returns:
        The last whole checkpoint, or None to begin.

    Raises:
        HwsiError: OPTION_INVALID (the folder is another run's), OUTPUT_UNWRITABLE, DISK_FULL.
    """
    told_ = json.dumps(key, sort_keys=True, indent=2, default=str)
    file = out / "run.json"
    with told(out):
        out.mkdir(parents=True, exist_ok=True)
        if file.is_file():
            if file.read_text("utf-8") != told_:
                before = json.loads(file.read_text("utf-8"))
                now = json.loads(told_)
                changed = sorted(k for k in before.keys() | now.keys() if before.get(k) != now.get(k))
                what = f"{out} is the output of another run (other: {', '.join(changed)})"
                raise HwsiError(Reason.OPTION_INVALID, what, "name a new folder, or the same settings and data")
        else:
            write_atomic(file, told_.encode())
    return last_checkpoint(out)


def last_checkpoint(out: Path) -> Path | None:
    """The newest checkpoint that is whole; a process that was killed may have left one that is not."""
    whole = [p for p in (out / "checkpoints").glob("checkpoint-*") if (p / MARK).is_file()]
    return max(whole, key=lambda p: int(p.name.rpartition("-")[2]), default=None)
