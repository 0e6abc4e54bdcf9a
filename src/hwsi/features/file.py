"""Reads and writes the feature file of a slide.

- It exists means that it is whole: temporary name, fsync, rename (:mod:`hwsi.features.atomic`).
- Its content is checked, not only its existence: a sha256 over all tables and attributes stands in it.
- The same features give the same bytes: fixed order, no times, no names of machines.
- HDF5 1.10's layout is used for the checksums that it keeps over its own structure.
"""

import hashlib
import io
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from hwsi.errors import HwsiError, Reason
from hwsi.features.atomic import atomic_path
from hwsi.features.heaps import check_heaps
from hwsi.features.schema import SCHEMA_VERSION, Array, Attributes, Table, assemble, root_attributes, tables
from hwsi.features.slide_features import CellsInMemory, CellSource, SlideFeatures

_SHA = "content_sha256"
_CHUNK_BYTES = 1 << 18
_DEFLATE_BEST = 1032
"""To one: what deflate makes of nothing but zeros."""
# what h5py raises on a damaged file, by where the damage is
_DAMAGE = (
    OSError, RuntimeError, KeyError, ValueError, TypeError, IndexError, AttributeError, OverflowError, MemoryError,
)  # fmt: skip


class Disk(io.FileIO):
    """A file that remembers the first write that the system refused, and takes the rest for done.

    HDF5 cannot stop in the middle: it would try the same write again as each of its objects goes, and print
    a traceback each time.
    """

    refused: OSError | None = None

    def write(self, data: Any) -> int:
        """All of ``data``, as far as the system takes it; always its length."""
        rest = memoryview(data).cast("B")
        while len(rest) and self.refused is None:
            try:
                rest = rest[super().write(rest) :]
            except OSError as error:
                self.refused = error
        return memoryview(data).nbytes


def write_features(path: str | Path, features: SlideFeatures, *, cells: CellSource | None = None) -> None:
    """Write the feature file of a slide, wholly or not at all.

    Args:
        path: where; an older file is replaced.
        features: what to write.
        cells: where the cells come from, instead of from ``features``, if they are too many to hold.

    Raises:
        HwsiError: DISK_FULL, OUTPUT_UNWRITABLE; nothing is left behind.
    """
    root = root_attributes(features)
    total = hashlib.sha256()
    _digest_attributes(total, root)
    with atomic_path(Path(path)) as temporary, Disk(temporary, "r+") as disk:
        try:
            with h5py.File(disk, "w", libver=("v110", "v110")) as file:
                for name, value in root.items():
                    file.attrs[name] = value
                digests = {}
                for table in tables(features, cells or CellsInMemory(features)):
                    digests[table.name] = _write_table(file, table)
                    if disk.refused:
                        break
                for name in sorted(digests):
                    total.update(digests[name])
                file.attrs[_SHA] = total.hexdigest()
        except _DAMAGE:
            if not disk.refused:
                raise
        if disk.refused:
            raise disk.refused


def read_features(path: str | Path, *, slide_id: str | None = None) -> SlideFeatures:
    """The features in a file, checked.

    Args:
        path: a feature file.
        slide_id: the slide that they must be of, if given.

    Raises:
        HwsiError: FEATURES_MISSING, FEATURES_CORRUPT (cut short or altered), FEATURES_MISMATCH (of another
            slide, or written by a newer version).
    """
    root, arrays = _checked(Path(path), keep=True)
    if slide_id is not None and root["slide_id"] != slide_id:
        raise HwsiError(
            Reason.FEATURES_MISMATCH,
            f"{path} holds features of another slide ({root['slide_name']})",
            "hand in the feature file of this slide, or encode it",
        )
    try:
        return assemble(root, arrays)
    except _DAMAGE as error:
        raise _corrupt(path, f"its tables don't fit together: {error}") from error


load_features = read_features
"""The same, by the name under which the package shows it."""


def check_features(path: str | Path) -> Attributes:
    """The attributes of a whole file, after its content was checked block by block; it is never held.

    Raises:
        HwsiError: as :func:`read_features`.
    """
    return _checked(Path(path), keep=False)[0]


def _write_table(file: h5py.File, table: Table) -> bytes:
    """Write one table in whole chunks, however its rows come, and give its digest.

    Whole chunks make the file's bytes depend on the rows alone and not on the pieces that they came in.
    """
    row = int(np.prod(table.shape[1:])) * table.dtype.itemsize
    rows_of_chunk = max(1, min(_CHUNK_BYTES // max(row, 1), max(table.shape[0], 1)))
    dataset = file.create_dataset(
        table.name,
        shape=table.shape,
        dtype=table.dtype,
        chunks=(rows_of_chunk, *table.shape[1:]) if table.shape[0] else None,
        compression="gzip" if table.shape[0] else None,
        compression_opts=1 if table.shape[0] else None,
        shuffle=bool(table.shape[0]),
        track_times=False,
    )
    for name, value in table.attributes.items():
        dataset.attrs[name] = value
    digest = hashlib.sha256()
    _digest_head(digest, table.name, table.shape, table.dtype, table.attributes)
    start = 0
    for rows in _chunks(table, rows_of_chunk):
        dataset[start : start + len(rows)] = rows
        digest.update(rows.tobytes())
        start += len(rows)
    if start != table.shape[0]:
        raise ValueError(f"{table.name}: {start} rows came, {table.shape[0]} were announced")
    return digest.digest()


def _chunks(table: Table, rows: int) -> Iterator[Array]:
    """The rows of a table in pieces of exactly ``rows``, the last one shorter."""
    waiting: list[Array] = []
    count = 0
    for block in table.blocks():
        if block.dtype != table.dtype or block.shape[1:] != table.shape[1:]:
            raise ValueError(f"{table.name}: {block.dtype} {block.shape} for {table.dtype} {table.shape}")
        while len(block):
            taken, block = block[: rows - count], block[rows - count :]
            waiting.append(taken)
            count += len(taken)
            if count == rows:
                yield np.concatenate(waiting)
                waiting, count = [], 0
    if count:
        yield np.concatenate(waiting)


def _checked(path: Path, *, keep: bool) -> tuple[Attributes, dict[str, Array]]:
    if not path.is_file():
        raise HwsiError(Reason.FEATURES_MISSING, f"there is no feature file {path}", "encode the slide first")
    try:
        path.open("rb").close()
    except OSError as error:  # it may be whole: nobody must be told to remove it
        raise HwsiError(
            Reason.FEATURES_MISSING, f"cannot read {path}: {error.strerror}", "check its permissions and its drive"
        ) from error
    try:
        check_heaps(path)
        with h5py.File(path, "r", locking=False) as file:
            root = {name: _plain(value) for name, value in file.attrs.items()}
            told = root.pop(_SHA, None)
            version = root.get("schema_version")
            if isinstance(version, int) and version > SCHEMA_VERSION:
                raise HwsiError(
                    Reason.FEATURES_MISMATCH,
                    f"{path} is of a newer version (schema {version}, this one reads {SCHEMA_VERSION})",
                    "update hwsi, or encode the slide again",
                )
            if told is None or version is None:
                raise _corrupt(path, "it is no feature file of hwsi")
            arrays: dict[str, Array] = {}
            digests: dict[str, bytes] = {}
            names: list[str] = []
            file.visititems(lambda name, item: names.append(name) if isinstance(item, h5py.Dataset) else None)
            for name in names:
                digests[name] = _read_table(file[name], name, arrays if keep else None)
    except _DAMAGE as error:
        raise _corrupt(path, str(error)) from error
    total = hashlib.sha256()
    _digest_attributes(total, root)
    for name in sorted(digests):
        total.update(digests[name])
    if total.hexdigest() != told:
        raise _corrupt(path, "its content does not give its checksum")
    return root, arrays


def check_bounds(dataset: h5py.Dataset) -> None:
    """ValueError for a table that announces more than its bytes on disk can unpack to, or that lies in other files."""
    stored = dataset.id.get_storage_size()
    if dataset.is_virtual or dataset.external or dataset.nbytes > stored * _DEFLATE_BEST:
        raise ValueError(f"{dataset.name} announces {dataset.shape} {dataset.dtype}, and {stored} bytes are there")


def _read_table(dataset: h5py.Dataset, name: str, keep: dict[str, Array] | None) -> bytes:
    """Digest of a table, read piece by piece; its rows go to ``keep``."""
    check_bounds(dataset)
    digest = hashlib.sha256()
    attributes = {key: _plain(value) for key, value in dataset.attrs.items()}
    _digest_head(digest, name, dataset.shape, dataset.dtype, attributes)
    rows = np.empty(dataset.shape, dataset.dtype) if keep is not None else None
    step = 16 * dataset.chunks[0] if dataset.chunks else max(1, dataset.shape[0])
    for start in range(0, dataset.shape[0], step):
        block = dataset[start : start + step]
        digest.update(block.tobytes())
        if rows is not None:
            rows[start : start + step] = block
    if keep is not None and rows is not None:
        keep[name] = rows
    return digest.digest()


def _digest_head(digest: Any, name: str, shape: tuple[int, ...], dtype: np.dtype[Any], attributes: Attributes) -> None:
    digest.update(f"{name}|{shape}|{np.dtype(dtype).str}|".encode())
    _digest_attributes(digest, attributes)


def _digest_attributes(digest: Any, attributes: Attributes) -> None:
    for name, value in sorted(attributes.items()):
        text = struct.pack("<d", value).hex() if isinstance(value, float) else str(value)
        # a damaged file may hold text that is no UTF-8; h5py hands it over with surrogates
        digest.update(f"{len(name)}:{name}={len(text)}:{text};".encode(errors="surrogateescape"))


def _plain(value: Any) -> int | float | str:
    """An attribute as it was before HDF5 made it a numpy scalar."""
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, bytes):
        value = value.decode()
    if not isinstance(value, int | float | str):
        raise TypeError(f"an attribute is {type(value).__name__}")
    return value


def _corrupt(path: str | Path, why: str) -> HwsiError:
    return HwsiError(Reason.FEATURES_CORRUPT, f"{path} is damaged: {why}", "remove it and encode the slide again")
