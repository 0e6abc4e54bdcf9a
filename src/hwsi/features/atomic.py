"""Files that are whole or not there.

- Written to a temporary name in the same folder, fsynced, renamed; then the folder is fsynced.
- The writer holds a lock on its temporary. A temporary that nobody holds was left by a process that died
  (a lock dies with its holder, a process id may come again) and is removed by the next writer.
"""

import errno
import fcntl
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hwsi.errors import HwsiError, Reason

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """A temporary path to write to, which becomes ``path`` when the block ends without an error.

    Raises:
        HwsiError: DISK_FULL, OUTPUT_UNWRITABLE. The temporary is gone and ``path`` is what it was.
    """
    with told(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove_leftovers(path)
        temporary, lock = _create(path)
        try:
            yield temporary
            os.fsync(lock)
            os.replace(temporary, path)
            _sync_folder(path.parent)
        finally:
            temporary.unlink(missing_ok=True)
            os.close(lock)


def write_atomic(path: Path, data: bytes) -> None:
    """Write ``data`` to ``path``, wholly or not at all. Raises as :func:`atomic_path`."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(data)


@contextmanager
def told(path: Path) -> Iterator[None]:
    """Turns what the system says into what the user can do."""
    try:
        yield
    except OSError as error:
        if error.errno in _NO_ROOM:
            raise HwsiError(
                Reason.DISK_FULL, f"no room left to write {path}", "free some space and run again"
            ) from error
        raise HwsiError(
            Reason.OUTPUT_UNWRITABLE,
            f"cannot write {path}: {error.strerror or error}",
            "choose another folder",
        ) from error


def _create(path: Path) -> tuple[Path, int]:
    """A new, locked temporary beside ``path`` and the descriptor that holds its lock."""
    while True:
        temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
        lock = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
        fcntl.flock(lock, fcntl.LOCK_EX)
        # another writer may have taken it for a leftover between the two lines above
        if os.fstat(lock).st_nlink:
            return temporary, lock
        os.close(lock)


def _remove_leftovers(path: Path) -> None:
    for leftover in path.parent.glob(f".{_escaped(path.name)}.*.tmp"):
        try:
            lock = os.open(leftover, os.O_RDWR)
        except FileNotFoundError:
            continue
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            leftover.unlink(missing_ok=True)
        except BlockingIOError:
            pass  # its writer is alive
        finally:
            os.close(lock)


def _escaped(name: str) -> str:
    """``name`` for a glob: its own ``[``, ``*`` and ``?`` mean themselves."""
    return "".join(f"[{c}]" if c in "[*?" else c for c in name)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
