"""What a run of a benchmark leaves: predictions, and a result that says how its figures came to be.

- A result names benchmark and version, model, metric profile, seeds, library versions, hardware and the SHA-256 of the
  predictions. There is no date in it: equal runs give equal bytes.
- The JSON schema is made of the dataclasses, so neither can drift from the other.
- Figures without a value (nothing to count) are null, never nan.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from hwsi.benchmarks.statistics import Figure, Interval, bootstrap
from hwsi.errors import HwsiError, Reason
from hwsi.features.atomic import write_atomic

SCHEMA = "hwsi.result/1"
_LIBRARIES = ("hwsi", "torch", "transformers", "numpy", "nltk", "rouge-score")


@dataclass(frozen=True)
class Prediction:
    """What was answered to one row of a benchmark.

    Attributes:
        id: of the row, unique in its benchmark. patient, slide, task, area: of the row. given: the model's words.
        scores: what metrics made of it, by name; two runs are compared on these.
    """

    id: str
    patient: str
    slide: str
    task: str
    area: str
    given: str
    scores: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class RunResult:
    """One run on one task of a benchmark.

    Attributes:
        benchmark, version, version_sha: which rows, and the SHA-256 of the files they came from.
        task: ``closed``, ``open``, ``report``, ``caption``, ``classify``, ``similar`` (slide to slide), ``search``
            (words to places) or ``match`` (slide and report), and what was told beside the slide, if anything was.
        model: preset or checkpoint, and what was changed. profile: of the text metrics; empty where there are none.
        metrics: by name; a slash gives the part (``accuracy/diagnosis``).
        baselines: the same metrics of answers that need no slide, or another.
        rows, patients: scored. unusable: reason -> rows that were not.
        seeds: by what they seed. versions: of libraries. predictions_sha: see ``predictions_bytes``.
        notes: what a reader of the figures should know.
    """

    benchmark: str
    version: str
    version_sha: str
    task: str
    model: str
    profile: str
    metrics: dict[str, Interval]
    baselines: dict[str, dict[str, Interval]]
    rows: int
    patients: int
    unusable: dict[str, int]
    seeds: dict[str, int]
    versions: dict[str, str]
    hardware: str
    predictions_sha: str
    notes: list[str] = field(default_factory=list)
    schema: str = SCHEMA

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid"}


def measured(figures: Mapping[str, Figure], patients: list[str], *, seed: int = 0) -> dict[str, Interval]:
    """Every figure with its interval, in the order given."""
    return {name: bootstrap(figure, patients, seed=seed) for name, figure in figures.items()}


def predictions_bytes(predictions: Iterable[Prediction]) -> bytes:
    """JSON lines in the order of ids: what the file holds and the SHA-256 is taken of."""
    lines = [
        json.dumps(asdict(p), ensure_ascii=False, sort_keys=True, allow_nan=False)
        for p in sorted(predictions, key=lambda p: p.id)
    ]
    return "".join(f"{line}\n" for line in lines).encode()


def sha_of(predictions: Iterable[Prediction]) -> str:
    """SHA-256 of the predictions, hex."""
    return hashlib.sha256(predictions_bytes(predictions)).hexdigest()


def write_predictions(path: Path, predictions: Iterable[Prediction]) -> str:
    """Write predictions as JSON lines, whole or not at all. Returns their SHA-256."""
    data = predictions_bytes(predictions)
    write_atomic(path, data)
    return hashlib.sha256(data).hexdigest()


def read_predictions(path: Path) -> list[Prediction]:
    """Read them back. Raises: HwsiError (DATA_MISSING, DATA_INVALID)."""
    from pydantic import TypeAdapter, ValidationError

    adapter = TypeAdapter(list[Prediction])
    try:
        rows = [json.loads(line) for line in _text(path).split("\n") if line.strip()]
        found = adapter.validate_python(rows)
    except (ValidationError, ValueError) as error:
        raise HwsiError(Reason.DATA_INVALID, f"{path} holds no predictions: {_first(error)}", _REMAKE) from error
    if len({p.id for p in found}) < len(found):
        raise HwsiError(Reason.DATA_INVALID, f"{path} answers a row twice", _REMAKE)
    return found


_REMAKE = "give what hwsi bench run wrote"


def write_result(path: Path, result: RunResult) -> None:
    """Write a result as JSON, whole or not at all."""
    write_atomic(path, (json.dumps(asdict(result), indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode())


def read_result(path: Path) -> RunResult:
    """Read a result; every field is checked.

    Raises:
        HwsiError: DATA_MISSING, DATA_INVALID (not JSON, another schema, a field too many or too few).
    """
    from pydantic import TypeAdapter, ValidationError

    try:
        result = TypeAdapter(RunResult).validate_json(_text(path))
    except ValidationError as error:
        raise HwsiError(Reason.DATA_INVALID, f"{path} is no result: {_first(error)}", _REMAKE) from error
    if result.schema != SCHEMA:
        raise HwsiError(Reason.DATA_INVALID, f"{path} has schema {result.schema!r}, not {SCHEMA!r}", "run again")
    return result


def json_schema() -> dict[str, Any]:
    """The JSON schema of a result."""
    from pydantic import TypeAdapter

    return TypeAdapter(RunResult).json_schema()


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise HwsiError(Reason.DATA_MISSING, f"cannot read {path}: {error.strerror}", _REMAKE) from error
    except UnicodeDecodeError as error:
        raise HwsiError(Reason.DATA_INVALID, f"{path} is not text", _REMAKE) from error


def _first(error: Exception) -> str:
    from pydantic import ValidationError

    if isinstance(error, ValidationError):
        told = error.errors()[0]
        return f"{'.'.join(str(part) for part in told['loc']) or 'the file'}: {told['msg']}"
    return str(error)


def versions() -> dict[str, str]:
    """Versions of Python and the libraries that figures depend on; those that are not installed are left out."""
    from importlib.metadata import PackageNotFoundError, version
    from platform import python_version

    found = {"python": python_version()}
    for name in _LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def hardware() -> str:
    """The processor's kind and number of cores, and the GPU if one is there."""
    import os
    import platform

    import torch

    gpu = f", {torch.cuda.get_device_name()}" if torch.cuda.is_available() else ""
    return f"{platform.machine()}, {os.cpu_count()} cores{gpu}"
