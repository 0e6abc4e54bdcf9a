"""From files to rows: what a stage learns from and what it is measured on.

- Records are checked against features and model before the first step; all that is wrong is listed in
  ``OUT/data-problems.csv``.
- Training and held-out patients are apart, by the records' own splits or by the hash of the patient. The hash does not
  know the stage, so a patient that is held out of one is held out of all.
- ``test`` records are for benchmarks: no stage reads them.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from torch.utils.data import Dataset

from hwsi.errors import HwsiError, Reason
from hwsi.training.data.checking import load_records
from hwsi.training.data.records import SlideRecord
from hwsi.training.data.splits import assign_patients, require_disjoint, split_records
from hwsi.training.data.store import FeatureStore
from hwsi.training.stages.checkpoint import file_sha256
from hwsi.training.stages.config import Data

S = TypeVar("S", bound=SlideRecord)
PROBLEMS = "data-problems.csv"


@dataclass(frozen=True)
class Material:
    """What a stage learns from.

    Attributes:
        rows: a dataset with ``costs``. held_out: task -> rows to evaluate, possibly none.
        told: what the user must know of the data. files: file -> SHA-256.
        tasks: task -> its ``data`` settings, for ``stage.json``.
    """

    rows: Any
    held_out: dict[str, Any]
    told: tuple[str, ...] = ()
    files: dict[str, str] = field(default_factory=dict)
    tasks: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Split:
    """Records to learn from and to be measured on; ``told`` as of :class:`Material`."""

    train: list[Any]
    val: list[Any]
    told: tuple[str, ...] = ()


def open_store(data: Data) -> FeatureStore:
    """The features of a stage. Raises HwsiError(DATA_MISSING) if none are named."""
    if not data.features:
        what = "no features are named (data.features)"
        raise HwsiError(Reason.DATA_MISSING, what, "name the job folders of hwsi encode")
    return FeatureStore(data.features, slides=data.slides)


def read_split(
    kind: type[S],
    paths: Iterable[Path],
    data: Data,
    store: FeatureStore,
    processor: Any,
    *,
    listing: Path | None,
    more: Sequence[S] = (),
) -> Split:
    """Checked records of some files, split by patient.

    Args:
        kind: of the records. paths: their files. data: how they are split.
        store: of their slides. processor: of the model that reads them.
        listing: a CSV that gets all problems.
        more: records that come from elsewhere, checked already.

    Raises:
        HwsiError: as :func:`hwsi.training.data.checking.load_records`; SPLITS_OVERLAP.
    """
    paths = list(paths)
    records: list[S] = list(more)
    notes: tuple[str, ...] = ()
    if paths:
        loaded = load_records(kind, paths, store=store, processor=processor, skip_bad=data.skip_bad, listing=listing)
        records += loaded.records
        notes = loaded.told
    if data.patients is not None:
        records = assign_patients(records, data.patients)
    splits = split_records(records, fractions=(1 - data.val, data.val, 0.0))
    if not splits["train"]:
        what = f"no record of {', '.join(map(str, paths)) or 'the data'} is for training"
        raise HwsiError(Reason.DATA_INVALID, what, "give records with split train, or a smaller data.val")
    require_disjoint({name: some for name, some in splits.items() if some}, store=store)
    return Split(splits["train"], splits["val"], notes)


def digests(data: Data, texts: Iterable[Path]) -> dict[str, str]:
    """SHA-256 of all files of records and maps; features carry their own."""
    files = [*texts, *(p for p in (data.slides, data.patients) if isinstance(p, Path))]
    missing = [path for path in files if not path.is_file()]
    if missing:
        what = f"there is no file {missing[0]}"
        raise HwsiError(Reason.DATA_MISSING, what, "correct the path in the configuration")
    return {str(path): file_sha256(path) for path in files}


class Joined(Dataset[Any]):
    """Several datasets of rows, one after another."""

    def __init__(self, parts: Sequence[Any]) -> None:
        self.parts = [part for part in parts if len(part)]
        self._ends = np.cumsum([len(part) for part in self.parts])

    def __len__(self) -> int:
        return int(self._ends[-1]) if self.parts else 0

    @property
    def costs(self) -> list[int]:
        """Of all items."""
        return [cost for part in self.parts for cost in part.costs]

    def __getitem__(self, at: int | tuple[int, int]) -> Any:
        epoch, index = at if isinstance(at, tuple) else (0, at)
        part = int(np.searchsorted(self._ends, index, side="right"))
        return self.parts[part][epoch, index - (int(self._ends[part - 1]) if part else 0)]
