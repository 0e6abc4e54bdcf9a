"""Records to JSON Lines, as ``reading.py`` reads them back; a file is whole or not there."""

import json
from collections.abc import Iterable
from pathlib import Path

from hwsi.features.atomic import write_atomic
from hwsi.training.data.records import SlideRecord


def write_records(path: str | Path, records: Iterable[SlideRecord]) -> None:
    """One record a line, without fields that say nothing.

    Raises:
        HwsiError: OUTPUT_UNWRITABLE, DISK_FULL.
    """
    lines = (json.dumps(r.model_dump(mode="json", exclude_defaults=True), ensure_ascii=False) for r in records)
    write_atomic(Path(path), "".join(f"{line}\n" for line in lines).encode())
