"""Damage done to files on purpose: bits, ends, and numbers that cannot be; the same bytes for the same seed.

- ``bits``: one to eight bits turned, more of them where headers and tables lie than among pixels.
- ``cut``: the end is gone, or is zeros, as of a copy that broke off.
- ``absurd``: a number of the format's own says what cannot be: a size, a count, an offset, a type. Where they stand is
  found on the whole file (:func:`fields`): TIFF's tags, DICOM's and PNG's dimensions, JPEG's frame, the digits of JSON.
  HDF5 gets tables that announce what is not there, and attributes of another world, by h5py.
"""

import io
import re
import struct
import zlib
from pathlib import Path
from typing import Any

import h5py
import numpy as np

Field = tuple[int, int]
"""Offset and width in bytes of a number in a file."""

KINDS = ("bits", "cut", "absurd")
_DICOM = ((0x0028, 0x0008), (0x0028, 0x0010), (0x0028, 0x0011), (0x0028, 0x0002), (0x0048, 0x0006), (0x0048, 0x0007))
_ABSURD_JSON = (b"-1", b"1e400", b"9" * 40, b"NaN", b"4294967295", b"[]", b"null", b'"x"')
_ABSURD_ATTRIBUTES: tuple[Any, ...] = (-1, 0, 2**31 - 1, 2**62, float("nan"), float("inf"), "x" * 70_000, np.zeros(3))
_ABSURD_SHAPES = ((2**40, 512), (2**31, 2), (2**62,), (0,), (1, 1, 1, 1), (3, 2**33))


def mutate(whole: bytes, kind: str, numbers: list[Field], rng: np.random.Generator) -> bytes:
    """A damaged copy; ``numbers`` are the file's :func:`fields`. What has none gets other bits instead."""
    if kind == "cut":
        return _cut(whole, rng)
    if kind == "absurd":
        if whole[:8] == b"\x89HDF\r\n\x1a\n":
            return _absurd_hdf5(whole, rng)
        if whole[:1] in b"{[":
            return _absurd_json(whole, rng)
        if numbers:
            return _absurd_numbers(whole, numbers, rng)
    return _bits(whole, rng)


def fields(path: Path) -> list[Field]:
    """Where numbers stand that a reader believes."""
    data = path.read_bytes()
    if data[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        return _of_tiff(path)
    if data[128:132] == b"DICM":
        return _of_dicom(data)
    if data[:8] == b"\x89PNG\r\n\x1a\n":
        return [(16, 4), (20, 4), (24, 1), (25, 1)]
    if data[:2] == b"\xff\xd8":
        frame = data.find(b"\xff\xc0")
        return [(frame + 5, 2), (frame + 7, 2), (frame + 9, 1)] if frame > 0 else []
    return []


def _bits(whole: bytes, rng: np.random.Generator) -> bytes:
    data = bytearray(whole)
    for _ in range(int(rng.integers(1, 9))):
        near = int(rng.integers(min(len(data), 2048)))
        at = (near, len(data) - 1 - near, int(rng.integers(len(data))))[int(rng.choice(3, p=(0.4, 0.3, 0.3)))]
        data[at] ^= 1 << int(rng.integers(8))
    return bytes(data)


def _cut(whole: bytes, rng: np.random.Generator) -> bytes:
    # some near an end, where headers and tables lie
    left = int(rng.integers(1, len(whole))) if rng.random() < 0.5 else len(whole) - int(rng.integers(1, 64))
    left = max(1, min(left, len(whole) - 1) if rng.random() < 0.8 else int(rng.integers(1, min(600, len(whole)))))
    return whole[:left] + (b"\0" * (len(whole) - left) if rng.random() < 0.3 else b"")


def _absurd_numbers(whole: bytes, numbers: list[Field], rng: np.random.Generator) -> bytes:
    data = bytearray(whole)
    for _ in range(int(rng.integers(1, 4))):
        offset, width = numbers[int(rng.integers(len(numbers)))]
        most = (1 << 8 * width) - 1
        value = (0, 1, 3, most, most >> 1, most >> 2, most >> (4 * width), int(rng.integers(256)))[int(rng.integers(8))]
        data[offset : offset + width] = (value & most).to_bytes(width, ("little", "big")[int(rng.integers(2))])
    if data[1:4] == b"PNG":
        data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    return bytes(data)


def _absurd_json(whole: bytes, rng: np.random.Generator) -> bytes:
    found = list(re.finditer(rb"-?\d+(\.\d+)?", whole))
    start, end = found[int(rng.integers(len(found)))].span()
    return whole[:start] + _ABSURD_JSON[int(rng.integers(len(_ABSURD_JSON)))] + whole[end:]


def _absurd_hdf5(whole: bytes, rng: np.random.Generator) -> bytes:
    held = io.BytesIO(whole)
    with h5py.File(held, "r+") as file:
        tables: list[str] = []
        file.visititems(lambda name, item: tables.append(name) if isinstance(item, h5py.Dataset) else None)
        name = tables[int(rng.integers(len(tables)))]
        with_attributes = [item for item in (file, *(file[t] for t in tables)) if len(item.attrs)]
        if rng.random() < 0.5 and with_attributes:
            attributes = with_attributes[int(rng.integers(len(with_attributes)))].attrs
            key = list(attributes)[int(rng.integers(len(attributes)))]
            value = _ABSURD_ATTRIBUTES[int(rng.integers(len(_ABSURD_ATTRIBUTES)))]
            if isinstance(value, str):  # longer than an attribute may be in the file's head
                value = value[:60_000]
            attributes[key] = value
        else:
            dtype, kept = file[name].dtype, dict(file[name].attrs)
            del file[name]
            shape = _ABSURD_SHAPES[int(rng.integers(len(_ABSURD_SHAPES)))]
            chunks = tuple(max(1, min(64, n)) for n in shape)
            table = file.create_dataset(name, shape, dtype, chunks=chunks, maxshape=(None,) * len(shape))
            for key, value in kept.items():
                table.attrs[key] = value
    return held.getvalue()


def _of_tiff(path: Path) -> list[Field]:
    import tifffile

    found: list[Field] = []
    with tifffile.TiffFile(path) as tif:
        count = 8 if tif.is_bigtiff else 4
        pages = [*tif.pages, *(sub for page in tif.pages for sub in page.pages or ())]
        for page in pages:
            for tag in page.aspage().tags if hasattr(page, "aspage") else page.tags:
                found += [(tag.offset + 2, 2), (tag.offset + 4, count), (tag.offset + 4 + count, count)]
                width = struct.calcsize(tag.dataformat.lstrip("0123456789") or "B") if tag.count else 0
                if width in (2, 4, 8):
                    found.append((tag.valueoffset, width))
    return found


def _of_dicom(data: bytes) -> list[Field]:
    found: list[Field] = []
    for group, element in _DICOM:
        for vr, width in ((b"US", 2), (b"UL", 4), (b"IS", 1)):
            at = data.find(struct.pack("<HH", group, element) + vr)
            if at > 0:
                found += [(at + 8, width), (at + 6, 2)]
    return found
