"""Which patients are trained on, and that nobody stands on both sides.

- A split is the hash of the patient's name, so it stays when patients are added, and is the same on every machine.
- Disjoint means: no patient, no slide, no copy of a slide under another name, no report with the same words.
- A patient that is not known cannot be kept apart, so it is asked for, never guessed.
"""

import csv
import re
from collections.abc import Iterable, Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import TypeVar

from hwsi.errors import HwsiError, Reason
from hwsi.training.data.records import SPLITS, PairRecord, ReportRecord, SlideRecord, same_text
from hwsi.training.data.store import FeatureStore

S = TypeVar("S", bound=SlideRecord)
T = TypeVar("T", SlideRecord, ReportRecord, PairRecord)

FRACTIONS = (0.8, 0.1, 0.1)
_TCGA = re.compile(r"TCGA-[A-Z0-9]{2}-[A-Z0-9]{4}(?=-)")
_SHOWN = 5


def split_of(patient: str, fractions: Sequence[float] = FRACTIONS, *, seed: int = 0) -> str:
    """train, val or test, by the hash of a patient's name.

    Args:
        patient: name. fractions: of train, val and test, together 1. seed: another one gives another split.

    Raises:
        HwsiError: OPTION_INVALID.
    """
    if len(fractions) != 3 or min(fractions) < 0 or abs(sum(fractions) - 1) > 1e-6:
        what = f"fractions {', '.join(map(str, fractions))} are no split"
        raise HwsiError(Reason.OPTION_INVALID, what, "give three numbers for train, val and test, together 1")
    at = int.from_bytes(sha256(f"{seed}:{patient}".encode()).digest()[:8]) / 2**64
    if at < fractions[0] or not any(fractions[1:]):
        return "train"
    return "val" if at < fractions[0] + fractions[1] or not fractions[2] else "test"


def split_records(records: Iterable[T], *, fractions: Sequence[float] = FRACTIONS, seed: int = 0) -> dict[str, list[T]]:
    """Records by split: by their own ``split``, or, where they have none, by the hash of patients (of pairs: groups).

    Args:
        records: all with a ``split``, or all without. fractions, seed: of those without, see :func:`split_of`.

    Raises:
        HwsiError: DATA_INVALID (only some records have a split; a patient is unknown), OPTION_INVALID.
    """
    records = list(records)
    told = [r.split is not None for r in records]
    if any(told) and not all(told):
        what = f"{len(told) - sum(told)} of {len(told)} records have no split, the others have one"
        raise HwsiError(Reason.DATA_INVALID, what, "give all records a split, or none")
    found: dict[str, list[T]] = {name: [] for name in SPLITS}
    if not any(told):
        _known(records)
    for record in records:
        found[record.split or split_of(_patient(record), fractions, seed=seed)].append(record)
    return found


def assign_patients(records: Iterable[S], patients: str | Path | Mapping[str, str]) -> list[S]:
    """The records with their patients filled in where they are empty.

    Args:
        records: about slides.
        patients: a CSV with the columns ``slide`` and ``patient``, such a mapping, or ``tcga``: the first twelve
            characters of a TCGA barcode.

    Raises:
        HwsiError: DATA_MISSING, DATA_INVALID (a slide is not in it, or is no TCGA barcode).
    """
    records = list(records)
    if patients == "tcga":
        matches = {r.slide: _TCGA.match(r.slide) for r in records}
        table: Mapping[str, str] = {slide: match[0] for slide, match in matches.items() if match}
    else:
        table = patients if isinstance(patients, Mapping) else _read_patients(Path(patients))
    lost = sorted({r.slide for r in records if not r.patient and r.slide not in table})
    if lost:
        what = f"{len(lost)} slides have no patient in {patients if isinstance(patients, str | Path) else 'the map'}"
        raise HwsiError(Reason.DATA_INVALID, f"{what}: {_some(lost)}", "add them to the map")
    return [r if r.patient else r.model_copy(update={"patient": table[r.slide]}) for r in records]


def require_disjoint(
    splits: Mapping[str, Iterable[SlideRecord | PairRecord]], *, store: FeatureStore | None = None, texts: bool = True
) -> None:
    """Nothing stands in two splits.

    Args:
        splits: name -> records of any kind.
        store: then a slide is known by its content, too, whatever its name.
        texts: reports with the same words (but for white space and capitals) are an overlap.

    Raises:
        HwsiError: SPLITS_OVERLAP, with examples; DATA_INVALID (a patient is unknown, a slide has two patients).
    """
    held = {name: list(records) for name, records in splits.items()}
    _known([r for records in held.values() for r in records])
    _one_patient([r for records in held.values() for r in records if isinstance(r, SlideRecord)])
    keys: dict[str, dict[str, dict[str, str]]] = {}  # what -> its key -> split -> an example
    for name, records in held.items():
        for record in records:
            for what, key, example in _keys(record, store, texts):
                keys.setdefault(what, {}).setdefault(key, {}).setdefault(name, example)
    found = []
    for what, by_key in keys.items():
        both = [by_split for by_split in by_key.values() if len(by_split) > 1]
        if both:
            examples = _some([", ".join(f"{e} ({s})" for s, e in by_split.items()) for by_split in both])
            found.append(f"{len(both)} {what} in more than one split: {examples}")
    if found:
        todo = "split by patient, and keep slides with the same report on one side"
        raise HwsiError(Reason.SPLITS_OVERLAP, "; ".join(found), todo)


def _keys(record: SlideRecord | PairRecord, store: FeatureStore | None, texts: bool) -> Iterable[tuple[str, str, str]]:
    """What of a record may stand in one split only: (what, key, how to show it)."""
    if isinstance(record, PairRecord):
        yield "groups", record.group, record.group
        return
    yield "patients", record.patient, record.patient
    yield "slides", record.slide, record.slide
    if store is not None:
        yield "slides with the same content", store.find(record.slide).slide_id, record.slide
    if texts and isinstance(record, ReportRecord):
        yield "reports with the same words", same_text(record.report), record.slide


def _patient(record: SlideRecord | PairRecord) -> str:
    return record.group if isinstance(record, PairRecord) else record.patient


def _known(records: Sequence[SlideRecord | PairRecord]) -> None:
    lost = [r for r in records if not _patient(r)]
    if not lost:
        return
    names = sorted({"an image" if isinstance(r, PairRecord) else r.slide for r in lost})
    what = f"{len(lost)} records have no {'group' if isinstance(lost[0], PairRecord) else 'patient'}: {_some(names)}"
    raise HwsiError(Reason.DATA_INVALID, what, "say whose they are, in the records or in a map (slide, patient)")


def _one_patient(records: Iterable[SlideRecord]) -> None:
    of: dict[str, str] = {}
    for r in records:
        if of.setdefault(r.slide, r.patient) != r.patient:
            what = f"slide '{r.slide}' has two patients: {of[r.slide]}, {r.patient}"
            raise HwsiError(Reason.DATA_INVALID, what, "correct one of them")


def _read_patients(path: Path) -> dict[str, str]:
    if not path.is_file():
        raise HwsiError(Reason.DATA_MISSING, f"there is no file {path}", "give a CSV with the columns slide, patient")
    with path.open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    if not rows or not {"slide", "patient"} <= rows[0].keys():
        raise HwsiError(Reason.DATA_INVALID, f"{path} names no patients", "give a CSV with the columns slide, patient")
    return {row["slide"].strip(): (row["patient"] or "").strip() for row in rows if (row["patient"] or "").strip()}


def _some(names: Sequence[str]) -> str:
    return "; ".join(names[:_SHOWN]) + ("; ..." if len(names) > _SHOWN else "")
