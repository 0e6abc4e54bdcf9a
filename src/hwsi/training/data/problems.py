"""What is wrong with training data: every fault with its place, all of them told before the first step.

- Nothing is dropped in silence: a fault ends the run, or, if bad records may be skipped, is counted and told.
- The error's one line counts the faults by kind and shows a few; the whole list goes to a CSV.
"""

import csv
import io
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hwsi.errors import HwsiError, Reason
from hwsi.features.atomic import write_atomic

_SHOWN = 5


@dataclass(frozen=True)
class Problem:
    """One fault.

    Attributes:
        kind: stable code: ``empty_text``, ``duplicate_id``, ``features_missing``, ...
        file: that holds it. line: where its record begins, from 1 (rows of a Parquet file, members of a JSON list or
            tar are counted likewise); 0 for the whole file.
        field: of the record; empty for the whole record.
        what: what is wrong, in words.
    """

    kind: str
    file: str
    line: int
    field: str
    what: str

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}" if self.line else self.file
        return f"{place}: {self.field} {self.what}" if self.field else f"{place}: {self.what}"


def summary(problems: Sequence[Problem]) -> str:
    """Counts by kind and the first few, in one line."""
    counts = ", ".join(f"{n} {kind}" for kind, n in Counter(p.kind for p in problems).most_common())
    first = "; ".join(str(p) for p in problems[:_SHOWN])
    return f"{counts} ({first}{'; ...' if len(problems) > _SHOWN else ''})"


def write_problems(path: str | Path, problems: Sequence[Problem]) -> None:
    """All of them as CSV: kind, file, line, field, what.

    Raises:
        HwsiError: OUTPUT_UNWRITABLE, DISK_FULL.
    """
    text = io.StringIO(newline="")
    rows = csv.writer(text)
    rows.writerow(("kind", "file", "line", "field", "what"))
    rows.writerows((p.kind, p.file, p.line, p.field, p.what) for p in problems)
    write_atomic(Path(path), text.getvalue().encode())


def settle(problems: Sequence[Problem], of: int, *, skip_bad: bool = False, listing: str | Path | None = None) -> str:
    """End the run if anything is wrong; with ``skip_bad`` say what was left out instead.

    Args:
        problems: all that were found. of: records that were read, sound or not.
        skip_bad: go on with the sound ones.
        listing: where the whole list goes, if there is one.

    Returns:
        What to tell the user; empty if nothing is wrong.

    Raises:
        HwsiError: DATA_INVALID.
    """
    if not problems:
        return ""
    if listing is not None:
        write_problems(listing, problems)
    records = len({(p.file, p.line) for p in problems})
    what = f"{records} of {of} records have problems: {summary(problems)}"
    if skip_bad:
        return f"left out: {what}"
    todo = f"see {listing}, " if listing is not None else ""
    raise HwsiError(Reason.DATA_INVALID, what, f"{todo}correct them, or let bad records be skipped")
