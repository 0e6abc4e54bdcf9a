"""The feature files of a cohort, one slide in memory at a time, or as many as there is room for.

- The index is made of attributes and shapes alone: a thousand files in seconds, no table is read.
- A name stands for exactly one file: its stem, the slide's name or fingerprint in it, or what an explicit map says.
  Never a part of a name; two files for one name are an error.
- A file is read, and its checksum checked, when it is asked for; what was read last is kept within a budget of bytes.
- No file stays open, so a store travels to the workers of a ``DataLoader``; each begins with nothing in memory.
"""

import csv
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np

from hwsi.errors import HwsiError, Reason
from hwsi.features.file import read_features
from hwsi.features.schema import SCALES
from hwsi.features.slide_features import SlideFeatures
from hwsi.hierarchy.tree import Cells
from hwsi.training.data.records import slide_name

_DAMAGE = (OSError, RuntimeError, KeyError, ValueError, TypeError, AttributeError)


class Lengths(NamedTuple):
    """How much of a slide there is; patches with the background."""

    regions: int
    patches: int
    cells: int


@dataclass(frozen=True)
class Entry:
    """What the index knows of a feature file.

    Attributes:
        path: of the file.
        slide_id: fingerprint of the slide. slide_name: its stem. preset: that encoded it.
        lengths: rows of its tables.
        widths: scale -> encoder id -> width of its vectors.
    """

    path: Path
    slide_id: str
    slide_name: str
    preset: str
    lengths: Lengths
    widths: Mapping[str, Mapping[str, int]]


class FeatureStore:
    """Slides by name.

    Args:
        folders: job folders of ``hwsi encode`` (their ``features/``), or folders of feature files.
        slides: a CSV with the columns ``slide`` and ``file``, or such a mapping: which feature file (path or stem) a
            name in the data stands for, where the two differ.
        max_bytes: of features kept in memory, in each process.

    Raises:
        HwsiError: FEATURES_MISSING (a folder without feature files), DATA_MISSING, DATA_INVALID (the map).
    """

    def __init__(
        self,
        folders: Iterable[str | Path],
        *,
        slides: str | Path | Mapping[str, str] | None = None,
        max_bytes: int = 2 << 30,
    ) -> None:
        self.folders = tuple(Path(folder) for folder in folders)
        self._paths = list(dict.fromkeys(path for folder in self.folders for path in feature_files(folder)))
        self._map = dict(slides) if isinstance(slides, Mapping) else _read_map(Path(slides)) if slides else {}
        self._max_bytes = max_bytes
        self._held: OrderedDict[Path, SlideFeatures] = OrderedDict()
        self._bytes = 0

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_held": OrderedDict(), "_bytes": 0}

    def __len__(self) -> int:
        return len(self._paths)

    @cached_property
    def entries(self) -> tuple[Entry, ...]:
        """All whole files, in order of folders and names."""
        return tuple(e for e in self._index.values() if isinstance(e, Entry))

    @cached_property
    def damaged(self) -> dict[Path, str]:
        """Files that are none, and why."""
        return {path: e for path, e in self._index.items() if isinstance(e, str)}

    def find(self, slide: str) -> Entry:
        """The one file that a name stands for.

        Raises:
            HwsiError: FEATURES_MISSING (none), FEATURES_MISMATCH (several), FEATURES_CORRUPT.
        """
        if slide in self._map:
            told = self._map[slide]
            path = Path(told)
            found = self._by_name.get(slide_name(told), set()) if path.parent == Path() else {path.absolute()}
            name = f"slide '{slide}' ('{told}' by the map)"
        else:
            found, name = self._by_name.get(slide, set()), f"slide '{slide}'"
        if not found or not found <= self._index.keys():
            where = ", ".join(map(str, self.folders)) or "no folder"
            todo = "encode it, or say in a map (columns slide, file) which feature file it is"
            raise HwsiError(Reason.FEATURES_MISSING, f"{name} has no feature file in {where}", todo)
        if len(found) > 1:
            both = ", ".join(str(path) for path in sorted(found)[:3])
            todo = "keep one of them, or choose by a map (columns slide, file)"
            raise HwsiError(Reason.FEATURES_MISMATCH, f"{name} stands for {len(found)} feature files: {both}", todo)
        entry = self._index[next(iter(found))]
        if isinstance(entry, str):
            todo = "remove it and encode the slide again"
            raise HwsiError(Reason.FEATURES_CORRUPT, f"{next(iter(found))} is damaged: {entry}", todo)
        return entry

    def lengths(self, slide: str) -> Lengths:
        """Regions, patches and cells of a slide. Raises as :meth:`find`."""
        return self.find(slide).lengths

    def get(self, slide: str) -> SlideFeatures:
        """The features of a slide, without outlines of cells and tissue: no stage reads them.

        Raises:
            HwsiError: as :meth:`find` and :func:`hwsi.features.read_features`.
        """
        entry = self.find(slide)
        held = self._held.pop(entry.path, None)
        if held is None:
            held = _without_outlines(read_features(entry.path, slide_id=entry.slide_id))
            self._bytes += nbytes(held)
        self._held[entry.path] = held
        while self._bytes > self._max_bytes and len(self._held) > 1:
            _, dropped = self._held.popitem(last=False)
            self._bytes -= nbytes(dropped)
        return held

    @cached_property
    def _index(self) -> dict[Path, Entry | str]:
        return {path: _entry(path) for path in self._paths}

    @cached_property
    def _by_name(self) -> dict[str, set[Path]]:
        found: dict[str, set[Path]] = {}
        for path, entry in self._index.items():
            names = {path.name.removesuffix(".h5")}
            if isinstance(entry, Entry):
                names |= {entry.slide_id, entry.slide_name}
            for name in names - {""}:
                found.setdefault(name, set()).add(path)
        return found


def feature_files(folder: str | Path) -> list[Path]:
    """Feature files of a job folder, or directly in a folder, in order of their names.

    Raises:
        HwsiError: FEATURES_MISSING.
    """
    folder = Path(folder)
    inside = folder / "features"
    at = inside if inside.is_dir() else folder
    found = sorted(path.absolute() for path in at.glob("*.h5") if not path.name.startswith("."))
    if not found:
        todo = "give a folder that hwsi encode wrote (--out)"
        raise HwsiError(Reason.FEATURES_MISSING, f"there are no feature files in {folder}", todo)
    return found


def nbytes(features: SlideFeatures) -> int:
    """Memory of the arrays."""
    h = features.hierarchy
    arrays = [v for scale in SCALES for v in getattr(features, scale).values()]
    arrays += [v for part in (h.regions, h.patches, h.cells) for v in vars(part).values() if isinstance(v, np.ndarray)]
    return sum(array.nbytes for array in arrays)


def _entry(path: Path) -> Entry | str:
    """The entry of a file, or why it has none."""
    try:
        with h5py.File(path, "r", locking=False) as file:
            widths: dict[str, dict[str, int]] = {}
            for scale in SCALES:
                tables = file[scale].get("features")
                # an item of a group that is not opened further: no row is read
                widths[scale] = {name: int(tables[name].shape[1]) for name in tables} if tables is not None else {}
            rows = (len(file[f"{scale}/coords"]) for scale in ("region", "patch", "cell"))
            slide_id, name, preset = (str(file.attrs[at]) for at in ("slide_id", "slide_name", "preset"))
            return Entry(path, slide_id, name, preset, Lengths(*rows), widths)
    except _DAMAGE as error:
        return " ".join(str(error).split())


def _without_outlines(features: SlideFeatures) -> SlideFeatures:
    tree = features.hierarchy
    m = len(tree.cells)
    bare: Cells = replace(tree.cells, contour_ptr=np.zeros(m + 1, np.int64), contour_xy=np.zeros((0, 2), np.float32))
    return replace(features, hierarchy=tree.with_cells(bare), tissue=())


def _read_map(path: Path) -> dict[str, str]:
    """Slide -> file of a map."""
    if not path.is_file():
        raise HwsiError(Reason.DATA_MISSING, f"there is no map {path}", "give a CSV with the columns slide, file")
    with path.open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    if not rows or not {"slide", "file"} <= rows[0].keys():
        raise HwsiError(Reason.DATA_INVALID, f"{path} is no map", "give a CSV with the columns slide, file")
    found: dict[str, str] = {}
    for row in rows:
        slide, file_ = row["slide"].strip(), (row["file"] or "").strip()
        if Path(file_).parent != Path():
            file_ = str(path.parent / file_)  # beside the map, wherever the program is called
        if found.setdefault(slide, file_) != file_:
            what = f"{path} gives slide '{slide}' two files: {found[slide]}, {file_}"
            raise HwsiError(Reason.DATA_INVALID, what, "keep one row for each slide")
    return found
