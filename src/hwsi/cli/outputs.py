"""Outputs that a verb will write: seen to be writable before long work starts."""

import tempfile
from pathlib import Path

from hwsi.errors import HwsiError, Reason


def check_writable(path: Path) -> None:
    """See that a file can be made at ``path``; makes its folder.

    Errors: output_unwritable.
    """
    if path.is_dir():
        raise HwsiError(Reason.OUTPUT_UNWRITABLE, f"{path} is a folder", "name a file")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        what = f"cannot write {path}: {error.strerror or error}"
        raise HwsiError(Reason.OUTPUT_UNWRITABLE, what, "choose a folder that you may write to") from error
