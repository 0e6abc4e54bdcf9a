"""Which records are asked on which slides: cases, their partners, and what cannot be asked.

- A case is what a record's slide name resolves to: one feature file, or those of all slides of a patient where the
  dataset names only him. Its records stand together, so its tokens are prefilled once.
- Every case has a partner, the next case of another patient (and of the same group, where groups are told): the
  records of a case are asked on its partner, too, when that one's turn comes.
- A record without features is counted and told, never asked about another slide.

Notation: K cases.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from hwsi.benchmarks.datasets.barcodes import BarcodeMap
from hwsi.benchmarks.datasets.record import Record
from hwsi.errors import HwsiError, Reason

Form = Literal["closed", "open", "report", "caption", "classify"]
"""What is done with a record."""

NO_FEATURES = "no_features"


def form_of(record: Record) -> Form:
    """What is done with a record, from its options and from what its dataset calls it."""
    if record.choices:
        return "classify" if record.task == "classification" else "closed"
    if "report" in (record.task, record.area):
        return "report"
    return "caption" if "caption" in (record.task, record.area) else "open"


@dataclass(frozen=True)
class Case:
    """Slides that are one to the dataset, and what it asks about them.

    Attributes:
        name: as the dataset names it. patient: whose. files: feature files, the first slide first.
        records: in the order of the dataset.
    """

    name: str
    patient: str
    files: tuple[Path, ...]
    records: tuple[Record, ...]


@dataclass(frozen=True)
class Plan:
    """What is asked.

    Attributes:
        cases: K, in order of their names. partner: of each case the index of another, None where there is none.
        missing: slide id -> its records, for which there are no features. told: that, in one line.
    """

    cases: tuple[Case, ...]
    partner: tuple[int | None, ...]
    missing: Mapping[str, int]
    told: str

    def lent(self, i: int) -> tuple[Record, ...]:
        """Records of other cases that are asked on case ``i``."""
        return tuple(r for case, j in zip(self.cases, self.partner, strict=True) if j == i for r in case.records)

    @property
    def records(self) -> tuple[Record, ...]:
        """All that are asked, case by case."""
        return tuple(r for case in self.cases for r in case.records)

    @property
    def unusable(self) -> dict[str, int]:
        """Reason -> records that cannot be asked."""
        count = sum(self.missing.values())
        return {NO_FEATURES: count} if count else {}


def make_plan(records: Sequence[Record], files: Sequence[Path], groups: Mapping[str, str] | None = None) -> Plan:
    """Records to cases.

    Args:
        records: to be asked. files: feature files, named by their slides.
        groups: slide id -> group within which partners are sought; without, all slides are one group.

    Raises:
        HwsiError: FEATURES_MISSING (no record's slide has features).
    """
    at = {path.stem: path for path in files}
    found = BarcodeMap(at).resolve_all(records)
    of_case: dict[tuple[str, ...], list[Record]] = defaultdict(list)
    for record in records:
        if record.slide_id in found.slides:
            of_case[found.slides[record.slide_id]].append(record)
    if not of_case:
        what = f"none of the {len(found.missing):,} slides of the records has a feature file"
        raise HwsiError(Reason.FEATURES_MISSING, what, "encode them: hwsi encode SLIDES --out JOB, then --features JOB")
    cases = tuple(
        Case(those[0].slide_id, those[0].whose, tuple(at[name] for name in names), tuple(those))
        for names, those in sorted(of_case.items())
    )
    group = [(groups or {}).get(case.name, "") for case in cases]
    return Plan(cases, tuple(partners(group, [case.patient for case in cases])), found.missing, found.told())


def partners(groups: Sequence[str], patients: Sequence[str]) -> list[int | None]:
    """For each slide the next one of its group that is of another patient, in a circle; None if there is none."""
    n = len(groups)
    found: list[int | None] = []
    for i in range(n):
        circle = ((i + step) % n for step in range(1, n))
        found.append(next((j for j in circle if groups[j] == groups[i] and patients[j] != patients[i]), None))
    return found
