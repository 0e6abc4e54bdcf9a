"""Slides on remote or slow storage: copied to a fast disk while they are encoded, then removed.

- A slide named by a URL that fsspec knows (``s3://``, ``gs://``, ``https://``, ...) is copied in any case; a path is
  copied where a cache is named.
- MIRAX slides come with the folder beside them.
- A copy that a killed process left is removed by the next that copies: nobody holds its lock any more.
"""

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from hwsi.encoding.cohort.manifest import is_url
from hwsi.encoding.cohort.remote import file_system
from hwsi.errors import HwsiError, Reason
from hwsi.features.atomic import told

_PREFIX = "hwsi-slide-"
_LOCK = ".lock"


@contextmanager
def local_copy(slide: str, cache: Path | None) -> Iterator[Path]:
    """The path under which a slide can be read here, until the block ends.

    Args:
        slide: path or URL.
        cache: folder for copies; None: paths are not copied, and URLs to the system's temporary folder.

    Raises:
        HwsiError: SLIDE_MISSING if it can't be fetched, EXTRA_MISSING without fsspec or what it needs for this
            kind of URL, DISK_FULL, OUTPUT_UNWRITABLE.
    """
    if cache is None and not is_url(slide):
        yield Path(slide)
        return
    parent = cache or Path(tempfile.gettempdir())
    with told(parent):
        parent.mkdir(parents=True, exist_ok=True)
        _remove_leftovers(parent)
        folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=parent))
        lock = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT, 0o600)
        fcntl.flock(lock, fcntl.LOCK_EX)
    try:
        yield _fetch(slide, folder) if is_url(slide) else _copy(Path(slide), folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)


def _copy(slide: Path, folder: Path) -> Path:
    target = folder / slide.name
    beside = slide.with_suffix("")
    with told(target):
        try:
            if slide.is_dir():
                shutil.copytree(slide, target)
            else:
                shutil.copyfile(slide, target)
            if slide.suffix.lower() == ".mrxs" and beside.is_dir():
                shutil.copytree(beside, folder / beside.name)
        except (FileNotFoundError, PermissionError) as error:
            raise HwsiError(
                Reason.SLIDE_MISSING, f"{slide} cannot be read: {error.strerror}", "check the path and its permissions"
            ) from error
    return target


def _fetch(url: str, folder: Path) -> Path:
    name = PurePosixPath(url).name
    target = folder / name
    try:
        system, remote = file_system(url)
        system.get_file(remote, str(target))
        if target.stat().st_size != (system.info(remote).get("size") or target.stat().st_size):
            raise HwsiError(Reason.SLIDE_MISSING, f"{url} broke off while it was fetched", "run again")
        if name.lower().endswith(".mrxs"):
            beside = remote[: -len(".mrxs")]
            system.get(beside, str(folder / PurePosixPath(beside).name), recursive=True)
    except OSError as error:
        if error.filename is not None and str(error.filename).startswith(str(folder)):
            with told(target):
                raise
        raise _not_fetched(url, error) from error
    except (HwsiError, MemoryError):
        raise
    except Exception as error:  # each kind of storage has errors of its own
        raise _not_fetched(url, error) from error
    return target


def _not_fetched(url: str, error: Exception) -> HwsiError:
    what = f"{url} cannot be fetched: {type(error).__name__}: {error}"
    return HwsiError(Reason.SLIDE_MISSING, what, "check the address and that you may read it")


def _remove_leftovers(parent: Path) -> None:
    for folder in parent.glob(f"{_PREFIX}*"):
        try:
            lock = os.open(folder / _LOCK, os.O_RDWR)
        except OSError:  # being made, or another user's
            continue
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)
        except BlockingIOError:
            pass  # its process is alive
        finally:
            os.close(lock)
