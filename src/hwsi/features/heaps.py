"""Whether the heaps of an HDF5 file are whole, before HDF5 itself reads them.

HDF5 2.0 keeps text of variable length in global heaps, and believes the sizes that stand in them: one flipped bit there
and it goes round for ever, or reads what is not its own and ends the process. Source: HDF5 file format specification
version 3.0, section III.E "Global heap".
"""

import mmap
import struct
from pathlib import Path

_SIGNATURE = b"GCOL\x01\0\0\0"  # with version 1 and the reserved bytes: rows of features do not spell it by chance
_HEAD, _OBJECT = 16, 16


def check_heaps(path: Path) -> None:
    """ValueError for a file in which objects of a heap are larger than what is left of it; OSError as of reading."""
    with path.open("rb") as raw:
        if not path.stat().st_size:
            return
        with mmap.mmap(raw.fileno(), 0, access=mmap.ACCESS_READ) as data:
            at = data.find(_SIGNATURE)
            while at >= 0:
                at = data.find(_SIGNATURE, _check(data, at))


def _check(data: mmap.mmap, start: int) -> int:
    """The end of the heap that begins at ``start``."""
    if start + _HEAD > len(data):
        raise ValueError(f"a heap at {start} has no head")
    size = int(struct.unpack_from("<Q", data, start + 8)[0])
    end = start + size
    if not _HEAD <= size <= len(data) - start:
        raise ValueError(f"a heap at {start} announces {size} bytes, and {len(data) - start} are left")
    at = start + _HEAD
    while at + _OBJECT <= end:
        number, _, length = struct.unpack_from("<HH4xQ", data, at)
        # an object is told without its head, free space (number 0) with it
        taken = _OBJECT + (length + 7) // 8 * 8 if number else length
        if not _OBJECT <= taken <= end - at:
            raise ValueError(f"an object in the heap at {start} announces {length} bytes, and {end - at} are left")
        at += taken
    return end
