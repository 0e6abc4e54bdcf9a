"""What people said of answers, in one SQLite file: written by the viewer, read by ``prefer``.

- One table, one row for each verdict on one answer. A verdict ``wrong`` with a better answer is a preference; ``right``
  and ``unsure`` are kept, and train nothing.
- A row is never changed: who thinks again says so in a new row, and the last word of a person on a slide, question and
  answer counts.
"""

import json
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from hwsi.errors import HwsiError, Reason
from hwsi.training.data.records import PreferenceRecord

SCHEMA = """
CREATE TABLE IF NOT EXISTS feedback (
    id           INTEGER PRIMARY KEY,
    slide_id     TEXT NOT NULL,              -- fingerprint of the slide, as in its feature file
    patient_id   TEXT NOT NULL DEFAULT '',   -- whose tissue it is; needed before it can be trained on
    question     TEXT NOT NULL,              -- without its options
    choices_json TEXT NOT NULL DEFAULT '[]', -- options of a closed question, a JSON list
    answer       TEXT NOT NULL,              -- what the model said
    better       TEXT NOT NULL DEFAULT '',   -- what it should have said
    verdict      TEXT NOT NULL CHECK (verdict IN ('right', 'wrong', 'unsure')),
    box_json     TEXT NOT NULL DEFAULT '[]', -- [x, y, width, height] in level-0 pixels that the person marked
    created_at   TEXT NOT NULL,              -- ISO 8601, UTC
    annotator    TEXT NOT NULL DEFAULT ''
)
"""
Verdict = Literal["right", "wrong", "unsure"]
SOURCE = "viewer"


@dataclass(frozen=True)
class Feedback:
    """One verdict; fields as of the table."""

    slide_id: str
    question: str
    answer: str
    verdict: Verdict
    better: str = ""
    patient_id: str = ""
    choices: Sequence[str] = ()
    box: Sequence[int] = ()
    annotator: str = ""


def add_feedback(path: Path, said: Feedback) -> int:
    """Add a verdict to a store, made where there is none; returns its id.

    Raises:
        HwsiError: OUTPUT_UNWRITABLE.
    """
    values = (
        said.slide_id, said.patient_id, said.question, json.dumps(list(said.choices), ensure_ascii=False), said.answer,
        said.better, said.verdict, json.dumps(list(said.box)), datetime.now(UTC).isoformat(timespec="seconds"),
        said.annotator,
    )  # fmt: skip
    try:
        with closing(sqlite3.connect(path)) as store, store:
            store.execute(SCHEMA)
            made = store.execute(
                "INSERT INTO feedback (slide_id, patient_id, question, choices_json, answer, better, verdict, box_json,"
                " created_at, annotator) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                values,
            )
            return int(made.lastrowid or 0)
    except sqlite3.Error as error:
        what = f"cannot write feedback to {path}: {error}"
        raise HwsiError(Reason.OUTPUT_UNWRITABLE, what, "choose a folder that you may write to") from error


def read_feedback(path: Path) -> list[PreferenceRecord]:
    """The preferences in a store.

    Raises:
        HwsiError: DATA_MISSING, DATA_INVALID (no feedback store; a row that is no preference, by its id).
    """
    if not path.is_file():
        raise HwsiError(Reason.DATA_MISSING, f"there is no feedback store {path}", "correct the path (data.feedback)")
    try:
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as store:
            rows = store.execute(
                "SELECT id, slide_id, patient_id, question, choices_json, answer, better, verdict, annotator"
                " FROM feedback ORDER BY id"
            ).fetchall()
    except sqlite3.Error as error:
        what = f"{path} is no feedback store: {error}"
        raise HwsiError(Reason.DATA_INVALID, what, "give the SQLite file that the viewer wrote") from error
    last = {(slide, question, answer, who): row for row in rows for _, slide, _, question, _, answer, *_, who in [row]}
    found = []
    for number, slide, patient, question, choices, answer, better, verdict, who in last.values():
        if verdict != "wrong" or not better.strip():
            continue
        try:
            found.append(
                PreferenceRecord(
                    id=f"feedback/{number}",
                    slide=slide,
                    patient=patient,
                    question=question,
                    choices=tuple(json.loads(choices)),
                    chosen=better,
                    rejected=answer,
                    source=SOURCE,
                    annotator=who,
                )
            )
        except (ValidationError, ValueError) as error:
            what = f"row {number} of {path} is no preference: {error}"
            raise HwsiError(Reason.DATA_INVALID, what, "correct or remove the row") from error
    if not found:
        what = f"no verdict in {path} names a better answer"
        raise HwsiError(Reason.DATA_INVALID, what, "in the viewer, say what the answer should have been")
    return found
