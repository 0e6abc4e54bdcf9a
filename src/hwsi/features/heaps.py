"""Whether the heaps of an HDF5 file are whole, before HDF5 itself reads them.

HDF5 2.0 keeps text of variable length in global heaps, and believes the sizes that stand in them: one flipped bit there
and it goes round for ever, or reads what is not its own and ends the process. Source: HDF5 file format specification
version 3.0, section III.E "Global heap".
"""

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

_SIGNATURE = b"GCOL\x01\0\0\0"  # with version 1 and the reserved bytes: rows of features do not spell it by chance
_HEAD, _OBJECT = 16, 16
_BLOCK = 1 << 22


def check_heaps(path: Path) -> None:
    """ValueError for a file in which objects of a heap are larger than what is left of it; OSError as of reading."""
    # read, not mapped: a mapped file that is cut short meanwhile ends the process
    with path.open("rb") as raw:
        starts = list(_starts(raw))
        left = raw.seek(0, 2)
        for start in starts:
            raw.seek(start)
            _check(raw, start, left - start)


def _starts(raw: BinaryIO) -> Iterator[int]:
    """Where heaps begin."""
    seen, data = 0, b""
    while block := raw.read(_BLOCK):
        data = data[1 - len(_SIGNATURE) :] + block
        seen += len(block)
        at = data.find(_SIGNATURE)
        while at >= 0:
            yield seen - len(data) + at
            at = data.find(_SIGNATURE, at + 1)


def _check(raw: BinaryIO, start: int, left: int) -> None:
    head = raw.read(_HEAD)
    if len(head) < _HEAD:
        raise ValueError(f"a heap at {start} has no head")
    size = int(struct.unpack_from("<Q", head, 8)[0])
    if not _HEAD <= size <= left:
        raise ValueError(f"a heap at {start} announces {size} bytes, and {left} are left")
    data = raw.read(size - _HEAD)
    at = 0
    while at + _OBJECT <= len(data):
        number, _, length = struct.unpack_from("<HH4xQ", data, at)
        # an object is told without its head, free space (number 0) with it
        taken = _OBJECT + (length + 7) // 8 * 8 if number else length
        if not _OBJECT <= taken <= len(data) - at:
            raise ValueError(f"an object in the heap at {start} announces {length} bytes of {len(data) - at}")
        at += taken
