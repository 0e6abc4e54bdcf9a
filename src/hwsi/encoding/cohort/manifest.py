"""Which slides a cohort has: from folders, lists, patterns, manifests and single files.

- A folder is searched all the way down, by the names that slides have. What else lies in it is counted, so that it
  can be told and does not vanish.
- The files of a DICOM series are one slide; its largest file stands for it, since label and overview are small.
- A manifest is a CSV with a column ``slide`` (or ``wsi``, as TRIDENT calls it) and, as wanted, ``mpp``, ``patient``
  and ``mask``; other columns are left alone. Paths count from its folder, or from one that is given.
- The same file is listed once, in the order in which it was first named.
"""

import csv
import glob
import math
import os
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from hwsi.encoding.cohort.remote import is_one_slide, list_slides
from hwsi.errors import HwsiError, Reason

SUFFIXES = frozenset(
    {".svs", ".svslide", ".tif", ".tiff", ".ndpi", ".mrxs", ".scn", ".bif", ".qptiff", ".vms", ".vmu", ".dcm"}
)
"""What a slide in a folder is known by. Pictures (.png, .jpg) are thumbnails and masks more often than slides."""
_LISTS = frozenset({".csv", ".txt"})
_PATTERN = re.compile(r"[*?\[]")
_URL = re.compile(r"[a-z][a-z0-9+.-]+://")
_SERIES = re.compile(rb"\x20\x00\x0e\x00UI(..)([0-9.]{1,64})", re.DOTALL)
_HEAD = 1 << 16


@dataclass(frozen=True)
class Entry:
    """One slide as it was asked for.

    Attributes:
        slide: absolute path, or URL.
        mpp: micrometres per level-0 pixel, where the file does not say or is wrong.
        patient: whose it is, as the manifest says.
        mask: the user's own tissue mask.
        size_bytes: of a slide behind a URL, where a listing told.
    """

    slide: str
    mpp: float | None = None
    patient: str = ""
    mask: Path | None = None
    size_bytes: int = 0


@dataclass(frozen=True)
class Found:
    """What was asked for: the slides, and how many files of which suffix in the folders are none by their names."""

    entries: tuple[Entry, ...]
    others: dict[str, int]


def find_slides(
    asked: Iterable[str], *, manifest: Path | None = None, root: Path | None = None, skip: Path | None = None
) -> Found:
    """The slides that are asked for.

    Args:
        asked: folders, patterns (``*.svs``, ``**/*.tif``), lists (``.txt``: one path a line; ``.csv``: a manifest),
            slides; URLs of slides, of folders and of patterns.
        manifest: a CSV; with slides asked for as well, it only says more about these.
        root: where the paths of lists and manifests begin, instead of the list's own folder.
        skip: a folder that holds no slides of the cohort: the job's.

    Raises:
        HwsiError: SLIDE_MISSING for a folder or pattern without slides, MANIFEST_INVALID.
    """
    others: Counter[str] = Counter()
    entries: list[Entry] = []
    for word in asked:
        path = Path(word)
        if is_url(word):
            listed = [(word, 0)] if is_one_slide(word, SUFFIXES) else list_slides(word, SUFFIXES)
            entries += [Entry(url, size_bytes=size) for url, size in listed]
        elif path.is_dir():
            entries += [Entry(str(p)) for p in _of_folder(path, skip, others)]
        elif path.suffix.lower() in _LISTS and path.is_file():
            entries += read_list(path, root)
        elif _PATTERN.search(word) and not path.exists():
            entries += [Entry(str(p)) for p in _of_pattern(word)]
        else:
            entries.append(Entry(str(_absolute(path))))
    if manifest is not None:
        named = read_list(manifest, root)
        if entries:
            more = {entry.slide: entry for entry in named}
            entries = [more.get(entry.slide, entry) for entry in entries]
        else:
            entries = named
    once = {entry.slide: entry for entry in reversed(entries)}
    return Found(tuple(once[slide] for slide in dict.fromkeys(entry.slide for entry in entries)), dict(others))


def is_cohort(word: str) -> bool:
    """Whether a word on the command line stands for more than the file that it names."""
    path = Path(word)
    if is_url(word):
        return not is_one_slide(word, SUFFIXES)
    if path.is_dir():
        return _one_slide(path) is None
    return (path.suffix.lower() in _LISTS and path.is_file()) or bool(_PATTERN.search(word) and not path.exists())


def read_list(path: Path, root: Path | None = None) -> list[Entry]:
    """The entries of a ``.txt`` list or a CSV manifest.

    Raises:
        HwsiError: MANIFEST_INVALID if it cannot be read, has no column ``slide`` or ``wsi``, names no slide, or holds
            an ``mpp`` that is none.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise _wrong(path, f"cannot be read: {getattr(error, 'strerror', None) or error}") from error
    base = root or path.parent
    if path.suffix.lower() == ".txt":
        lines = (line.strip() for line in text.splitlines())
        entries = [Entry(_place(line, base)) for line in lines if line and not line.startswith("#")]
    else:
        entries = _of_csv(path, text, base)
    if not entries:
        raise _wrong(path, "names no slide")
    return entries


def _of_csv(path: Path, text: str, base: Path) -> list[Entry]:
    try:
        table = csv.DictReader(text.splitlines(), strict=True)
        names = {(name or "").strip().lower(): name for name in table.fieldnames or ()}
        column = names.get("slide", names.get("wsi"))
        if column is None:
            raise _wrong(path, "has no column 'slide'")
        entries = []
        for row in table:
            value = {key: (row.get(name) or "").strip() for key, name in names.items()}
            if slide := (row.get(column) or "").strip():
                mask = value.get("mask")
                entries.append(
                    Entry(
                        _place(slide, base),
                        _mpp(path, slide, value.get("mpp", "")),
                        value.get("patient", ""),
                        _absolute(base / mask) if mask else None,
                    )
                )
    except csv.Error as error:
        raise _wrong(path, f"is no CSV: {error}") from error
    return entries


def _mpp(path: Path, slide: str, text: str) -> float | None:
    if not text:
        return None
    try:
        mpp = float(text)
    except ValueError:
        mpp = math.nan
    if not (math.isfinite(mpp) and mpp > 0):
        raise _wrong(path, f"says mpp {text!r} of {slide}")
    return mpp


def _wrong(path: Path, what: str) -> HwsiError:
    todo = "hand in a CSV with a column 'slide' and, as wanted, mpp, patient and mask; or a .txt with a path a line"
    return HwsiError(Reason.MANIFEST_INVALID, f"the list {path} {what}", todo)


def _of_folder(folder: Path, skip: Path | None, others: Counter[str]) -> list[Path]:
    if (slide := _one_slide(folder)) is not None:
        return [_absolute(slide)]
    found: list[Path] = []
    not_here = None if skip is None else _absolute(skip)
    for at, folders, files in os.walk(_absolute(folder)):
        folders[:] = sorted(f for f in folders if not f.startswith(".") and Path(at, f) != not_here)
        for name in sorted(files):
            suffix = Path(name).suffix.lower()
            if name.startswith("."):
                continue
            if suffix in SUFFIXES:
                found.append(Path(at, name))
            elif not _of_mirax(Path(at)):
                others[suffix or "no suffix"] += 1
    if not found:
        raise HwsiError(
            Reason.SLIDE_MISSING,
            f"there is no slide in {folder}" + (f" ({told_others(others)})" if others else ""),
            f"slides are found by their names: {' '.join(sorted(SUFFIXES))}; pictures by a pattern such as '*.png'",
        )
    return _one_of_a_series(found)


def told_others(others: dict[str, int]) -> str:
    """In words, the files that are no slides by their names: ``12 other files: .txt 10, .xml 2``."""
    listed = ", ".join(f"{suffix} {n}" for suffix, n in sorted(others.items(), key=lambda kv: (-kv[1], kv[0]))[:6])
    return f"{sum(others.values())} other files: {listed}"


def _one_slide(folder: Path) -> Path | None:
    """The folder, where it is itself one slide: it belongs to a MIRAX file, or holds one DICOM series and no more."""
    if _of_mirax(folder):
        return folder
    try:
        inside = [f for f in folder.iterdir() if not f.name.startswith(".")]
    except OSError:  # what may not be looked into holds nothing
        return None
    files = [f for f in inside if f.is_file()]
    if files == inside and all(f.suffix.lower() == ".dcm" for f in files):
        series = {_series(f) for f in files}
        return folder if len(files) > 1 and len(series) == 1 and None not in series else None
    return None


def _of_mirax(folder: Path) -> bool:
    whole = _absolute(folder)
    return bool(whole.name) and whole.with_name(whole.name + ".mrxs").is_file()


def _of_pattern(word: str) -> list[Path]:
    found = [_absolute(Path(p)) for p in sorted(glob.glob(word, recursive=True)) if Path(p).is_file()]
    if not found:
        raise HwsiError(Reason.SLIDE_MISSING, f"nothing is named {word}", "check the pattern")
    return _one_of_a_series(found)


def _one_of_a_series(paths: list[Path]) -> list[Path]:
    """Each file, but of a DICOM series only the largest."""
    series = {p: (p.parent, _series(p)) for p in paths if p.suffix.lower() == ".dcm"}
    largest: dict[tuple[Path, str | None], Path] = {}
    for path, key in series.items():
        if key[1] is not None and (key not in largest or _size(path) > _size(largest[key])):
            largest[key] = path
    return [p for p in paths if p not in series or series[p][1] is None or largest[series[p]] == p]


def _series(file: Path) -> str | None:
    """Series Instance UID (0020,000E) of a DICOM file with explicit VR, as whole-slide images have it."""
    try:
        with file.open("rb") as opened:
            found = _SERIES.search(opened.read(_HEAD))
    except OSError:
        return None
    return found[2].decode().rstrip("\0") if found else None


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def slide_bytes(slide: str) -> int:
    """Bytes of a slide: of its file, of a directory all files, of MIRAX those of its folder too; 0 if not here."""
    path = Path(slide)
    total = _size(path) if path.is_file() else 0
    folder = path if path.is_dir() else path.with_suffix("") if path.suffix.lower() == ".mrxs" else None
    if folder is not None and folder.is_dir():
        total += sum(_size(file) for file in folder.rglob("*") if file.is_file())
    return total


def with_defaults(entry: Entry, mpp: float | None) -> Entry:
    """The entry with the resolution that was given for all, unless it has its own."""
    return entry if entry.mpp is not None or mpp is None else replace(entry, mpp=mpp)


def is_url(word: str) -> bool:
    """Whether a slide is named by where it is on another machine."""
    return bool(_URL.match(word))


def _place(word: str, base: Path) -> str:
    return word if is_url(word) else str(_absolute(base / word))


def _absolute(path: Path) -> Path:
    return Path(os.path.abspath(path))
