"""What is done of a slide that is not whole yet: one small file for each region.

- A region's file appears whole or not at all, so a run that was killed goes on where it stopped.
- A journal belongs to one key (slide, preset, encoders, mask); with another key it begins anew.
- One process at a time: others wait for its lock, which dies with it.
- Cells are streamed from here into the feature file, so memory does not grow with them.
"""

import fcntl
import io
import os
import zipfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hwsi.errors import HwsiError, Reason
from hwsi.features.atomic import told
from hwsi.features.slide_features import CellBlock, CellSource
from hwsi.hierarchy.tree import Cells

_ATTEMPTS = 100
_DAMAGE = (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile)


class Journal:
    """The folder of a slide's partial results; a context manager that holds its lock.

    On leaving, a journal with nothing in it is removed, and so is one of a slide that turned out to be
    damaged: it will never be whole.

    Args:
        folder: of this slide alone.
        key: digest of all that the results depend on.
    """

    def __init__(self, folder: Path, key: str) -> None:
        self.folder, self.key = folder, key
        self._lock: int | None = None
        self._removed = False

    def is_left(self) -> bool:
        """Whether there is one, of this key or broken: not that of a process that works in another way."""
        if not self.folder.exists():
            return False
        try:
            return (self.folder / "key").read_bytes() == self.key.encode()
        except OSError:
            return True

    def __enter__(self) -> "Journal":
        with told(self.folder):
            self._lock, self._removed = self._locked(), False
            try:
                self._begin()
            except BaseException:
                self._unlock()  # nobody leaves what was never entered
                raise
        return self

    def _begin(self) -> None:
        at = self.folder / "key"
        if not at.is_file() or at.read_bytes() != self.key.encode():
            for stale in self.folder.glob("*.npz"):
                stale.unlink()
            self._replace(at, self.key.encode())
        for leftover in self.folder.glob("*.tmp"):
            leftover.unlink()

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        broken = isinstance(error, HwsiError) and error.reason is Reason.SLIDE_CORRUPT
        if not self._removed and (broken or not any(self.folder.glob("*.npz"))):
            self.remove()
        self._unlock()

    def _unlock(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def put(
        self, region: int, patch: NDArray[np.float32], cells: CellBlock, read: NDArray[np.float32] | None = None
    ) -> None:
        """Keep the results of a region: features (n, D) of its patches with tissue, and its cells.

        ``read`` (n, D') are those of the patch encoder that only the region encoder reads, where there is one.
        """
        arrays: dict[str, NDArray[Any]] = {
            "patch": patch,
            "xy": cells.cells.xy,
            "parent": cells.cells.patch,
            "contour_ptr": cells.cells.contour_ptr,
            "contour_xy": cells.cells.contour_xy,
            "type": cells.cells.type,
            "type_prob": cells.cells.type_prob,
        }
        if read is not None:
            arrays["read"] = read
        arrays |= {f"features/{encoder}": values for encoder, values in cells.features.items()}
        packed = io.BytesIO()  # a zip that fails half-way on a full disk cannot be closed
        np.savez(packed, allow_pickle=False, **arrays)
        with told(self._path(region)):
            self._replace(self._path(region), packed.getvalue())

    def count(self, region: int, patches: int) -> int | None:
        """How many cells were found in a region; None if it is not done, or its file is damaged (then it goes)."""
        found = self.peek(region, patches)
        if found is None:
            self._path(region).unlink(missing_ok=True)
        return found

    def peek(self, region: int, patches: int) -> int | None:
        """As :meth:`count`, but changes nothing: for those who read beside the one who holds the lock."""
        try:
            with np.load(self._path(region), allow_pickle=False) as file:
                # every array is read, so that a file cut short by a power failure is noticed
                arrays = {name: file[name] for name in file.files}
            of_patches = (arrays[name] for name in ("patch", "read") if name in arrays)
            return len(arrays["xy"]) if all(len(a) == patches for a in of_patches) else None
        except _DAMAGE:
            return None

    def patch(self, region: int) -> NDArray[np.float32]:
        """Features (n, D) of a region's patches that hold tissue."""
        return self._rows(region, "patch")

    def read(self, region: int) -> NDArray[np.float32]:
        """Features (n, D') of the same patches, as the region encoder reads them, where it reads others."""
        return self._rows(region, "read")

    def block(self, region: int) -> CellBlock:
        """The cells of a region."""
        with np.load(self._path(region), allow_pickle=False) as file:
            cells = Cells(
                xy=file["xy"],
                patch=file["parent"],
                contour_ptr=file["contour_ptr"],
                contour_xy=file["contour_xy"],
                type=file["type"],
                type_prob=file["type_prob"],
            )
            features = {
                name.removeprefix("features/"): file[name] for name in file.files if name.startswith("features/")
            }
        return CellBlock(cells, features)

    def remove(self) -> None:
        """Forget everything, and the folder above if no other slide is in it."""
        self._removed = True  # from here on the folder may be another's
        lock = self.folder / "lock"
        with suppress(OSError):
            for file in self.folder.iterdir():
                if file != lock:
                    file.unlink()
        # the lock goes last: who comes meanwhile waits for it, and does not begin in a folder that is being emptied
        with suppress(OSError):
            lock.unlink()
            self.folder.rmdir()
        with suppress(OSError):  # it holds the journal of another slide
            self.folder.parent.rmdir()

    def _rows(self, region: int, name: str) -> NDArray[np.float32]:
        with np.load(self._path(region), allow_pickle=False) as file:
            return np.asarray(file[name], np.float32)

    def _path(self, region: int) -> Path:
        return self.folder / f"{region:06d}.npz"

    def _replace(self, path: Path, data: bytes) -> None:
        temporary = path.with_suffix(".tmp")
        try:
            temporary.write_bytes(data)
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)

    def _locked(self) -> int:
        """The folder, made if need be, and the lock on it."""
        missed = 0
        while True:
            try:
                self.folder.mkdir(parents=True, exist_ok=True)
                lock = os.open(self.folder / "lock", os.O_RDWR | os.O_CREAT, 0o666)
            except FileNotFoundError:  # who was done removed the folder between these two lines
                missed += 1
                if missed > _ATTEMPTS:
                    raise
                continue
            fcntl.flock(lock, fcntl.LOCK_EX)
            # who held it before may have been done and removed the folder
            if os.fstat(lock).st_nlink:
                return lock
            os.close(lock)


class JournalCells(CellSource):
    """The cells of all regions of a finished journal, one block for each region."""

    def __init__(self, journal: Journal, regions: int, dims: dict[str, int]) -> None:
        self._journal, self._regions = journal, regions
        self.dims = dims
        self.cells = self.vertices = 0
        for block in self.blocks():
            self.cells += len(block.cells)
            self.vertices += len(block.cells.contour_xy)

    def blocks(self) -> Iterator[CellBlock]:
        """One block for each region."""
        for region in range(self._regions):
            yield self._journal.block(region)
