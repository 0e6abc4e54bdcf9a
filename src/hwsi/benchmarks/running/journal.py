"""Answers on disk, one file a case: what was answered once is not asked again, and is the same when a run goes on.

- A file holds the key of all that its answers depend on (model, weights, feature files, records, seed); under another
  key it counts as absent and is written anew.
- A file is whole or not there, so a run may be killed at any moment.
"""

import json
from hashlib import sha256
from pathlib import Path
from typing import Any

from hwsi.features.atomic import write_atomic


def key_of(*parts: Any) -> str:
    """A digest of JSON-ready parts, hex."""
    return sha256(json.dumps(parts, sort_keys=True, ensure_ascii=False).encode()).hexdigest()


class Journal:
    """The answers of one run.

    Args:
        folder: of the files.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def kept(self, name: str, key: str) -> dict[str, Any] | None:
        """What was answered under this name and key; None if nothing was."""
        try:
            stored = json.loads(self._path(name).read_bytes())
        except (OSError, ValueError):
            return None
        if not isinstance(stored, dict) or stored.get("key") != key:
            return None
        answers = stored.get("answers")
        return answers if isinstance(answers, dict) else None

    def keep(self, name: str, key: str, answers: dict[str, Any]) -> None:
        """Write them. Raises: HwsiError (OUTPUT_UNWRITABLE, DISK_FULL)."""
        stored = {"name": name, "key": key, "answers": answers}
        write_atomic(self._path(name), json.dumps(stored, ensure_ascii=False, allow_nan=False).encode())

    def _path(self, name: str) -> Path:
        return self.folder / f"{sha256(name.encode()).hexdigest()[:24]}.json"
