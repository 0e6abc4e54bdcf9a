"""File formats to plain rows: CSV, JSON, JSON Lines, Parquet, WebDataset.

- A row is a dict and the place where it begins; what cannot be read is a :class:`Problem` in its stead, and reading
  goes on behind it where the format allows.
- CSV as people write it: a byte order mark, commas, semicolons, tabs or bars, line breaks inside quotes.
- Of JSON, a key that stands twice and numbers that are none are faults, not the last value and NaN.
- Of a tar nothing is extracted: an image is its offset, and a name that leaves its folder is a fault.
"""

import codecs
import csv
import json
import tarfile
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path, PurePosixPath
from typing import Any

from hwsi.errors import HwsiError, Reason
from hwsi.training.data.problems import Problem
from hwsi.training.data.records import TarMember

IMAGES = ("png", "jpg", "jpeg", "webp", "tif", "tiff", "bmp")
_TEXTS = ("txt", "caption")
_DELIMITERS = ",;\t|"
_MAX_TEXT = 1 << 20  # bytes of a caption or its JSON in a tar


@dataclass(frozen=True)
class RawRow:
    """One record as its file holds it; ``line`` is where it begins, from 1."""

    line: int
    fields: dict[str, Any]


Found = Iterator[RawRow | Problem]


def raw_rows(path: str | Path, known: Collection[str]) -> Found:
    """All rows of a file, by its ending.

    Args:
        path: ``.csv``, ``.tsv``, ``.json``, ``.jsonl``, ``.ndjson``, ``.parquet`` or ``.tar``.
        known: names of fields, by which the delimiter of a CSV is recognised.

    Raises:
        HwsiError: DATA_MISSING (there is no such file), DATA_INVALID (another ending), EXTRA_MISSING (Parquet without
            pyarrow).
    """
    path = Path(path)
    if not path.is_file():
        raise HwsiError(Reason.DATA_MISSING, f"there is no file {path}", "check the path")
    ending = path.suffix.lower()
    if ending in (".csv", ".tsv"):
        return _csv(path, known)
    if ending in (".json", ".jsonl", ".ndjson"):
        return _json(path)
    if ending == ".parquet":
        return _parquet(path)
    if ending == ".tar":
        return _webdataset(path)
    what = f"{path} has the ending '{ending}', which is not read"
    raise HwsiError(Reason.DATA_INVALID, what, "give CSV, TSV, JSON, JSON Lines, Parquet or a WebDataset (.tar)")


def _csv(path: Path, known: Collection[str]) -> Found:
    with path.open("rb") as file:
        start = file.read(4)
    encoding = "utf-16" if start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else "utf-8-sig"
    line = 1
    try:
        with path.open(encoding=encoding, newline="") as file:
            first = file.readline()
            delimiter = max(_DELIMITERS, key=lambda d: _known_columns(first, d, known))
            file.seek(0)
            rows = csv.reader(file, delimiter=delimiter, strict=True, skipinitialspace=True)
            header = [name.strip() for name in next(rows, [])]
            twice = {name for name in header if header.count(name) > 1}
            if twice or not header:
                what = f"its header names {', '.join(sorted(twice))} twice" if twice else "it is empty"
                yield Problem("bad_header", str(path), 1, "", what)
                return
            while True:
                line = rows.line_num + 1
                cells = next(rows, None)
                if cells is None:
                    return
                if not any(cell.strip() for cell in cells):
                    continue
                if len(cells) != len(header):
                    what = f"has {len(cells)} columns, its header {len(header)}"
                    yield Problem("bad_row", str(path), line, "", what)
                    continue
                yield RawRow(line, dict(zip(header, cells, strict=True)))
    except UnicodeError:
        yield Problem("unreadable", str(path), line, "", "is not UTF-8; nothing behind this line is read")
    except csv.Error as error:
        yield Problem("unreadable", str(path), line, "", f"is no CSV ({error}); nothing behind this line is read")


def _known_columns(header: str, delimiter: str, known: Collection[str]) -> tuple[int, int]:
    names = [name.strip().strip('"') for name in header.strip().split(delimiter)]
    return sum(name in known for name in names), len(names)


class _Object(dict[str, Any]):
    """A JSON object that remembers which keys stood in it twice."""

    twice: tuple[str, ...] = ()


def _object(pairs: list[tuple[str, Any]]) -> _Object:
    found = _Object(pairs)
    names = [name for name, _ in pairs]
    found.twice = tuple(sorted({name for name in names if names.count(name) > 1}))
    return found


def _no_number(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")


def _parse(text: str) -> Any:
    return json.loads(text, object_pairs_hook=_object, parse_constant=_no_number)


def _json(path: Path) -> Found:
    """A list of objects, or one object a line."""
    with path.open("rb") as file:
        start = file.read(4096).removeprefix(codecs.BOM_UTF8).lstrip()
    return _json_list(path) if start.startswith(b"[") else _json_lines(path)


def _json_list(path: Path) -> Found:
    try:
        for n, item in enumerate(_parse(path.read_bytes().decode("utf-8-sig")), start=1):
            yield _checked(path, n, item)
    except json.JSONDecodeError as error:
        yield Problem("not_json", str(path), error.lineno, "", f"is no JSON: {error.msg}")
    except (ValueError, RecursionError) as error:
        yield Problem("not_json", str(path), 0, "", f"is no JSON: {error}")


def _json_lines(path: Path) -> Found:
    with path.open("rb") as file:
        for n, line in enumerate(file, start=1):
            if not line.removeprefix(codecs.BOM_UTF8).strip():
                continue
            try:
                yield _checked(path, n, _parse(line.decode("utf-8-sig")))
            except (ValueError, RecursionError) as error:
                why = error.msg if isinstance(error, json.JSONDecodeError) else error
                yield Problem("not_json", str(path), n, "", f"is no JSON: {why}")


def _checked(path: Path, n: int, item: Any) -> RawRow | Problem:
    if not isinstance(item, _Object):
        return Problem("not_an_object", str(path), n, "", f"is {type(item).__name__}, not an object")
    twice = _twice(item)
    if twice:
        return Problem("duplicate_field", str(path), n, twice, "stands twice in one object")
    return RawRow(n, dict(item))


def _twice(item: Any) -> str:
    """A key that stands twice in an object or in one inside it; empty for none."""
    if isinstance(item, _Object):
        return next(iter(item.twice), "") or _twice(list(item.values()))
    return next(filter(None, map(_twice, item)), "") if isinstance(item, list) else ""


def _parquet(path: Path) -> Found:
    try:
        arrow, parquet = import_module("pyarrow"), import_module("pyarrow.parquet")
    except ImportError as error:
        todo = "pip install pyarrow, or give CSV or JSON Lines"
        raise HwsiError(Reason.EXTRA_MISSING, f"{path} is Parquet, which needs pyarrow", todo) from error

    def rows() -> Found:
        n = 0
        try:
            with parquet.ParquetFile(path) as file:
                for batch in file.iter_batches(batch_size=256):
                    for fields in batch.to_pylist():
                        n += 1
                        yield RawRow(n, fields)
        except (arrow.ArrowException, OSError) as error:
            yield Problem("unreadable", str(path), n + 1, "", f"is no Parquet from here on: {error}")

    return rows()


def _webdataset(path: Path) -> Found:
    """Samples of a shard: members that share their name up to the first dot, one behind the other."""
    size = path.stat().st_size
    n, key = 0, None
    fields: dict[str, Any] = {}
    bad: Problem | None = None
    try:
        with tarfile.open(path, "r:") as tar:
            for member in tar:
                if member.isdir():
                    continue
                name = PurePosixPath(member.name)
                stem, _, ending = name.name.partition(".")
                if key != (name.parent, stem):
                    if n:
                        yield bad or RawRow(n, fields)
                    n, key, fields, bad = n + 1, (name.parent, stem), {}, None
                bad = bad or _add(path, tar, member, ending.lower(), fields, n, size)
    except (tarfile.TarError, OSError) as error:
        bad = Problem("unreadable", str(path), n, "", f"is no whole tar: {error}")
        if not n:
            yield bad
    if n:
        yield bad or RawRow(n, fields)


def _add(
    path: Path, tar: tarfile.TarFile, member: tarfile.TarInfo, ending: str, fields: dict[str, Any], n: int, size: int
) -> Problem | None:
    """Put a member into the fields of its sample; a problem if it may not be there."""

    def problem(kind: str, what: str) -> Problem:
        return Problem(kind, str(path), n, member.name, what)

    name = PurePosixPath(member.name)
    if name.is_absolute() or ".." in name.parts:
        return problem("unsafe_name", "leaves its folder")
    if not member.isreg() or member.issparse():
        return problem("unsafe_name", "is no plain file")
    if member.offset_data + member.size > size:
        return problem("unreadable", "is cut short")
    if ending in IMAGES:
        if "image" in fields:
            return problem("several_images", "is a second image of its sample")
        fields["image"] = TarMember(path, member.name, member.offset_data, member.size)
        return None
    if ending not in (*_TEXTS, "json"):
        fields[f".{ending}"] = None  # told as a field that is not read
        return None
    file = tar.extractfile(member)
    data = file.read(_MAX_TEXT + 1) if file else b""
    if len(data) > _MAX_TEXT:
        return problem("too_long", f"has {member.size} bytes, at most {_MAX_TEXT} are read")
    try:
        text = data.decode("utf-8-sig")
        told = {"caption": text} if ending in _TEXTS else _parse(text)
    except (ValueError, RecursionError) as error:
        return problem("not_json" if ending == "json" else "unreadable", f"cannot be read: {error}")
    if not isinstance(told, dict):
        return problem("not_an_object", "is no object")
    fields.update(told)
    return None
