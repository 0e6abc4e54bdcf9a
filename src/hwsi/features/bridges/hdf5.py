"""HDF5 of others, read with bounds: what a file announces is weighed before memory is given to it.

- A table may announce no more than its stored bytes could give: see ``file.check_bounds``.
- Tables that lie in other files (external storage, external links, virtual datasets) are refused: a feature file has
  no business with the reader's other files.
- Whatever HDF5 says of damage becomes one reason code.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from hwsi.errors import HwsiError, Reason
from hwsi.features.atomic import atomic_path
from hwsi.features.bridges.bag import MOST_BYTES, damaged
from hwsi.features.file import Disk, check_bounds
from hwsi.features.heaps import check_heaps

FEATURE_NAMES = ("features", "feats", "feature", "embeddings")
# what h5py raises on a damaged file, by where the damage is
_DAMAGE = (
    OSError,
    RuntimeError,
    KeyError,
    ValueError,
    TypeError,
    IndexError,
    AttributeError,
    OverflowError,
    MemoryError,
)


@contextmanager
def opened(path: Path) -> Iterator[h5py.File]:
    """An HDF5 file to read. Errors: features_missing, features_corrupt, for all that is done with it."""
    present(path)
    try:
        check_heaps(path)
        with h5py.File(path, "r", locking=False) as file:
            yield file
    except HwsiError:
        raise
    except _DAMAGE as error:
        raise damaged(path, str(error) or type(error).__name__) from error


@contextmanager
def created(path: Path) -> Iterator[h5py.File]:
    """A new HDF5 file, whole at ``path`` when the block ends, or not there. Errors: output_unwritable, disk_full."""
    with atomic_path(path) as temporary, Disk(temporary, "r+") as disk:
        try:
            with h5py.File(disk, "w") as file:
                yield file
        except _DAMAGE:
            if not disk.refused:
                raise
        if disk.refused:
            raise disk.refused


def present(path: Path) -> None:
    """Errors: features_missing, for what is no file or cannot be read."""
    if not path.is_file():
        raise HwsiError(Reason.FEATURES_MISSING, f"there is no file {path}", "check the path")
    try:
        path.open("rb").close()
    except OSError as error:
        what = f"cannot read {path}: {error.strerror}"
        raise HwsiError(Reason.FEATURES_MISSING, what, "check its permissions and its drive") from error


def dataset(group: h5py.Group, name: str) -> h5py.Dataset | None:
    """A table that lies in this very file; None if there is none of that name."""
    link = group.get(name, getlink=True)
    if link is None:
        return None
    if isinstance(link, h5py.ExternalLink):
        raise damaged(group.file.filename, f"its {name} lie in another file, {link.filename}")
    found = group[name]
    if not isinstance(found, h5py.Dataset):
        return None
    if found.is_virtual or found.external:
        raise damaged(group.file.filename, f"its {name} lie in other files")
    return found


def features(group: h5py.Group) -> h5py.Dataset | None:
    """The table of features, by any of the names in use."""
    return next((found for name in FEATURE_NAMES if (found := dataset(group, name)) is not None), None)


def array(table: h5py.Dataset) -> NDArray[Any]:
    """All of a table of numbers or short strings. Errors: features_corrupt (announces what it does not hold)."""
    path, name = Path(table.file.filename), table.name
    if table.dtype.kind not in "fiuS":
        raise damaged(path, f"{name} holds {table.dtype}")
    if table.nbytes > MOST_BYTES:
        raise damaged(path, f"{name} announces {table.shape} {table.dtype}")
    check_bounds(table)
    return np.asarray(table[()])


def number(attributes: Any, name: str) -> float | None:
    """A positive, finite attribute (the first where it is a list), or None: absent, or none of that kind."""
    value = attributes.get(name)
    if isinstance(value, np.ndarray):
        value = value.ravel()[0] if value.size else None
    if isinstance(value, bytes | str):
        try:
            value = float(value)
        except ValueError:
            return None
    if not isinstance(value, int | float | np.integer | np.floating):
        return None
    return float(value) if np.isfinite(value) and value > 0 else None


def whole(attributes: Any, name: str) -> int | None:
    """As :func:`number`, of a whole number below 2^31."""
    value = number(attributes, name)
    return int(value) if value is not None and value == int(value) and value < 1 << 31 else None


def text(attributes: Any, name: str) -> str | None:
    """An attribute that is text and not empty, nor 'None', which is how some tools write nothing."""
    value = attributes.get(name)
    if isinstance(value, bytes):
        value = value.decode("utf-8", "replace")
    return str(value) if isinstance(value, str) and value not in ("", "None") else None


def size0(attributes: Any, width: str, height: str) -> tuple[int, int] | None:
    """Width and height of a slide from two attributes; None unless both are told."""
    w, h = whole(attributes, width), whole(attributes, height)
    return (w, h) if w is not None and h is not None else None
