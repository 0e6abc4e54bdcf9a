"""Outputs that lie elsewhere: finished files go to a folder that fsspec reaches (``s3://``, ``gs://``, ...).

- A file is made here, whole, and then uploaded; there it appears wholly or not at all. What is there is fetched and
  checked before it is believed, so a job whose table was lost goes on from what a listing shows.
- The table of states, the log and journals stay in the job folder, which is local: they are written all the time.
"""

import secrets
import time
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

from hwsi.encoding.cohort.remote import file_system
from hwsi.errors import HwsiError, Reason
from hwsi.features.atomic import atomic_path

_WHOLE = frozenset({"s3", "s3a", "gs", "gcs", "abfs", "abfss", "az", "adl", "oss", "memory"})
"""Storage of objects: a put shows the whole object or nothing. Elsewhere a file is renamed when it is whole."""
_TRIES = 4
_T = TypeVar("_T")


class Store:
    """A folder for finished files.

    Args:
        url: of it.

    Raises:
        HwsiError: EXTRA_MISSING, OPTION_INVALID for what is no URL of a storage.
    """

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")
        self._system, self._root = file_system(self.url)
        protocol = self._system.protocol
        self._objects = bool(_WHOLE & {protocol, *(() if isinstance(protocol, str) else protocol)})

    def sizes(self, folder: str) -> dict[str, int]:
        """Name -> bytes of the files in a folder. Raises HwsiError(OUTPUT_UNWRITABLE)."""

        def listed() -> dict[str, int]:
            self._system.invalidate_cache()
            try:
                found = self._system.ls(f"{self._root}/{folder}", detail=True)
            except FileNotFoundError:  # nothing was written yet
                return {}
            return {f["name"].rpartition("/")[2]: int(f["size"] or 0) for f in found if f["type"] == "file"}

        return self._tried(f"{self.url}/{folder} cannot be listed", listed)

    def fetch(self, name: str, path: Path) -> bool:
        """Bring ``name`` to ``path``; False where there is none. Raises HwsiError(OUTPUT_UNWRITABLE, DISK_FULL)."""

        def fetched() -> bool:
            self._system.invalidate_cache()
            if not self._system.exists(f"{self._root}/{name}"):
                return False
            with atomic_path(path) as temporary:
                self._system.get_file(f"{self._root}/{name}", str(temporary))
            return True

        return self._tried(f"{self.url}/{name} cannot be fetched", fetched)

    def put(self, path: Path, name: str) -> None:
        """Upload a whole file. Raises HwsiError(OUTPUT_UNWRITABLE)."""
        target = f"{self._root}/{name}"

        def uploaded() -> None:
            folder, _, last = target.rpartition("/")
            self._system.makedirs(folder, exist_ok=True)
            at = target if self._objects else f"{folder}/.{last}.{secrets.token_hex(4)}.tmp"
            try:
                self._system.put_file(str(path), at)
                if at != target:
                    self._system.mv(at, target)
            except BaseException:
                if at != target and self._system.exists(at):
                    self._system.rm_file(at)
                raise
            self._system.invalidate_cache()
            if self._system.info(target)["size"] != path.stat().st_size:
                raise OSError("it is shorter there than here")

        self._tried(f"{self.url}/{name} cannot be written", uploaded)

    def _tried(self, what: str, do: Callable[[], _T]) -> _T:
        """With patience: a network that is away for a moment ends no run of a week."""
        for attempt in range(_TRIES):
            try:
                return do()
            except (HwsiError, MemoryError):
                raise
            except Exception as error:  # each kind of storage has errors of its own
                if attempt == _TRIES - 1:
                    said = f"{what}: {type(error).__name__}: {error}"
                    todo = "check the address and that you may write there; then run again"
                    raise HwsiError(Reason.OUTPUT_UNWRITABLE, said, todo) from error
                time.sleep(0.5 * 4**attempt)
        raise AssertionError


@lru_cache(maxsize=4)
def open_store(url: str) -> Store:
    """The store of a URL, once in a process. Raises as :class:`Store`."""
    return Store(url)


def held(url: str) -> Callable[[str], int | None]:
    """What tells the bytes of a feature file of a store by its name; listed once. Raises as :meth:`Store.sizes`."""
    sizes: dict[str, Any] = open_store(url).sizes("features")
    return sizes.get
