"""Files to checked records, each fault with its place.

- ``read_records`` never stops at a fault and never drops one: what is wrong stands beside what is sound.
- Conversations come in four forms: our own (``turns``), chat messages, LLaVA's (SlideChat and WSI-Bench have it in two
  orders), and WSI-Bench's flat questions. ``<image>`` says where LLaVA puts the slide; ours stands first, so the mark
  goes.
- A field that no record has is told once, since it may be a misspelt one.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from pydantic import AliasChoices, ValidationError
from pydantic_core import ErrorDetails

from hwsi.training.data.formats import raw_rows
from hwsi.training.data.problems import Problem
from hwsi.training.data.records import ConversationRecord, PairRecord, Record, TarMember

R = TypeVar("R", bound=Record)
Place = tuple[str, int]
"""File and line of a record."""

_ROLES = {"human": "user", "gpt": "assistant"}
_MARK = "<image>"
_FLAT = ("answer", "T-answer")
_SIGNATURES = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"RIFF", b"II*\0", b"MM\0*", b"BM")
# pydantic's words for what has a name of its own here
_KINDS = {"missing": "missing_field"}


@dataclass(frozen=True)
class Reading(Generic[R]):
    """What was read.

    Attributes:
        records: the sound ones, in order; ``places`` where each stands.
        problems: what is wrong with the others.
        total: records that were read, sound or not.
        ignored: field -> in how many records it stood that have no such field.
    """

    records: tuple[R, ...]
    places: tuple[Place, ...]
    problems: tuple[Problem, ...]
    total: int
    ignored: Mapping[str, int]


def read_records(kind: type[R], paths: str | Path | Iterable[str | Path]) -> Reading[R]:
    """All records of some files.

    Args:
        kind: which records: ReportRecord, ConversationRecord, PreferenceRecord, PairRecord.
        paths: one file or several, see :func:`hwsi.training.data.formats.raw_rows`; images of pairs are named from
            their file's folder.

    Raises:
        HwsiError: as ``raw_rows``.
    """
    paths = [paths] if isinstance(paths, str | Path) else list(paths)
    known = _fields(kind)
    records: list[R] = []
    places: list[Place] = []
    problems: list[Problem] = []
    ignored: Counter[str] = Counter()
    said: dict[tuple[object, ...], Place] = {}
    total = 0
    for path in map(Path, paths):
        ids: dict[str, int] = {}
        for row in raw_rows(path, known):
            total += 1
            if isinstance(row, Problem):
                problems.append(row)
                continue
            fields = _adapted(kind, row.fields, path.parent)
            ignored.update(name for name in fields if name not in known)
            here = (str(path), row.line)
            try:
                record = kind.model_validate({name: value for name, value in fields.items() if value is not None})
            except ValidationError as error:
                problems += [_problem(here, fault) for fault in error.errors(include_url=False, include_context=False)]
                continue
            fault = _image_fault(record) or _twice(record, row.line, ids, said, here)
            if fault:
                problems.append(Problem(fault[0], *here, fault[1], fault[2]))
            else:
                records.append(record)
                places.append(here)
    return Reading(tuple(records), tuple(places), tuple(problems), total, dict(ignored))


def _twice(
    record: Record, line: int, ids: dict[str, int], said: dict[tuple[object, ...], Place], here: Place
) -> tuple[str, str, str] | None:
    """An id that stood in this file before, or a record that says what another one said."""
    name = getattr(record, "id", "")
    first = ids.setdefault(name, line) if name else line
    if first != line:
        return "duplicate_id", "id", f"'{name}' is that of line {first}, too"
    at = said.setdefault(record.identity(), here)
    if at != here:
        return "duplicate", "", f"says the same as {at[0]}:{at[1]}"
    return None


def _fields(kind: type[Record]) -> set[str]:
    """Names by which the fields of a kind may be called, and what its other forms call them."""
    names: set[str] = set()
    for name, field in kind.model_fields.items():
        names.add(name)
        if isinstance(field.validation_alias, AliasChoices):
            names |= {str(choice) for choice in field.validation_alias.choices}
    if kind is ConversationRecord:
        names |= {"conversations", "messages", "question", *_FLAT, "question_id", "metadata"}
    return names | ({"text"} if kind is PairRecord else set())


def _adapted(kind: type[Record], fields: dict[str, Any], folder: Path) -> dict[str, Any]:
    """The fields of a row by our names."""
    if kind is ConversationRecord:
        return _conversation(fields)
    if kind is PairRecord:
        return _pair(fields, folder)
    return fields


def _conversation(fields: dict[str, Any]) -> dict[str, Any]:
    fields = dict(fields)
    for theirs, ours in (("question_id", "id"), ("metadata", "task")):
        if isinstance(fields.get(theirs), str):
            fields.setdefault(ours, fields.pop(theirs))
    turns: Any = fields.pop("turns", None)
    if turns is None:
        turns = fields.pop("messages", None)
    if turns is None and "conversations" in fields:
        turns = fields.pop("conversations")
        if isinstance(turns, list):
            turns = [_llava_turn(turn) for turn in turns]
    flat = next((name for name in _FLAT if name in fields), None)
    if turns is None and flat and "question" in fields:
        said = [("user", fields.pop("question")), ("assistant", fields.pop(flat))]
        turns = [{"role": role, "content": content} for role, content in said]
    return {**fields, "turns": _without_mark(turns)}


def _llava_turn(turn: Any) -> Any:
    if not isinstance(turn, dict) or turn.keys() != {"from", "value"}:
        return turn
    return {"role": _ROLES.get(turn["from"], turn["from"]), "content": turn["value"]}


def _without_mark(turns: Any) -> Any:
    """The turns without the one mark of the slide's place; a second one stays, and is refused."""
    if not isinstance(turns, list):
        return turns
    out = list(turns)
    for i, turn in enumerate(out):
        if not isinstance(turn, dict) or turn.get("role") != "user" or not isinstance(turn.get("content"), str):
            continue
        before, mark, after = turn["content"].partition(_MARK)
        if mark:
            out[i] = {**turn, "content": f"{before.rstrip()}\n{after.lstrip()}".strip()}
            break
    return out


def _pair(fields: dict[str, Any], folder: Path) -> dict[str, Any]:
    fields = dict(fields)
    if "text" in fields:
        fields.setdefault("caption", fields.pop("text"))
    image = fields.get("image")
    if isinstance(image, dict):  # as Hugging Face's datasets keep images in Parquet
        image = image.get("bytes") or image.get("path")
    if isinstance(image, str) and image.strip():
        image = folder / image.strip()
    return {**fields, "image": image or None}


def _image_fault(record: Record) -> tuple[str, str, str] | None:
    """An image that is not there, or is none."""
    if not isinstance(record, PairRecord):
        return None
    image = record.image
    try:
        if isinstance(image, bytes):
            start = image[:16]
        else:
            at = image.offset if isinstance(image, TarMember) else 0
            with (image.tar if isinstance(image, TarMember) else image).open("rb") as file:
                file.seek(at)
                start = file.read(16)
    except OSError as error:
        return "image_missing", "image", f"cannot be read: {error}"
    if not start.startswith(_SIGNATURES):
        return "not_an_image", "image", "is no PNG, JPEG, WebP, TIFF or BMP"
    return None


def _problem(here: Place, fault: ErrorDetails) -> Problem:
    field = ""
    for part in fault["loc"]:
        field += f"[{part}]" if isinstance(part, int) else f".{part}" if field else str(part)
    kind = fault["type"]
    if kind not in _KINDS and kind.endswith(("_type", "_parsing", "_error")):
        kind = "wrong_type"
    what = "is missing" if kind == "missing" else _lower(fault["msg"])
    return Problem(_KINDS.get(kind, kind), *here, field, what)


def _lower(text: str) -> str:
    return text[:1].lower() + text[1:]
