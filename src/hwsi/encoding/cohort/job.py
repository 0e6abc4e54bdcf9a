"""What passes between the table of states and whoever encodes: the job, a slide of it, what became of it.

- All three are plain and can be pickled, so that an engine may send them to another process or another machine.
"""

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

from hwsi.errors import HwsiError, Reason
from hwsi.presets import Preset

State = Literal["waiting", "running", "done", "failed"]

MAY_PASS = frozenset(
    {
        Reason.SLIDE_MISSING, Reason.SLIDE_CHANGED, Reason.WORKER_KILLED, Reason.OUT_OF_MEMORY, Reason.DISK_FULL,
        Reason.OUTPUT_UNWRITABLE,
    }
)  # fmt: skip
"""Reasons that lie in the machine or in the moment: the next run of the job tries these slides again by itself."""


@dataclass(frozen=True)
class Job:
    """How the slides of a cohort are encoded.

    Attributes:
        out: job folder.
        preset: which encoders, which sizes.
        device: where they compute; with several GPUs, ``auto`` gives each worker one.
        trust_remote_code: the preset's slide encoder may run the code that it brings.
        cells_geojson: also write ``out/cells/<slide>.geojson``.
        cache: a folder on a fast disk to which slides are copied while they are encoded; none: they are read where
            they are, and only those that a URL names are copied, to the system's temporary folder.
        store: URL of a folder to which finished files go instead of staying in ``out`` (:mod:`.store`).
        patches: file or folder with patch features of another tool: of slides that it knows they are taken, and only
            what is missing is computed (:mod:`hwsi.encoding.given`).
        patches_encoder: what made them, where their files do not say.
    """

    out: Path
    preset: Preset
    device: str = "auto"
    trust_remote_code: bool = False
    cells_geojson: bool = False
    cache: Path | None = None
    store: str | None = None
    patches: Path | None = None
    patches_encoder: str | None = None

    def to_json(self) -> str:
        """All of it but the folder, which may be moved."""
        return json.dumps(
            {
                "preset": self.preset.model_dump(mode="json"),
                "device": self.device,
                "trust_remote_code": self.trust_remote_code,
                "cells_geojson": self.cells_geojson,
                "cache": None if self.cache is None else str(self.cache),
                "store": self.store,
                "patches": None if self.patches is None else str(self.patches),
                "patches_encoder": self.patches_encoder,
            }
        )

    @classmethod
    def from_json(cls, out: Path, text: str) -> Self:
        """A job as it was kept. Raises HwsiError(JOB_CORRUPT)."""
        try:
            told: dict[str, Any] = json.loads(text)
            preset = Preset.model_validate(told.pop("preset"))
            cache, patches = (told.pop(name, None) for name in ("cache", "patches"))
            return cls(out, preset, **told, cache=cache and Path(cache), patches=patches and Path(patches))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            what = f"the settings of the job {out} cannot be read: {error}"
            raise HwsiError(Reason.JOB_CORRUPT, what, "run hwsi encode on its slides again") from error

    def asked(self, slide: str, mpp: float | None, mask: Path | None) -> str:
        """Digest of what the outputs of a slide depend on, as far as it is known without opening anything.

        Files stand in it with their sizes and times, so that what was corrected is taken up again.
        """
        parts = [
            self.preset.model_dump(mode="json", exclude={"language_model"}),
            self.cells_geojson, stamp(slide), mpp, None if mask is None else [str(mask), stamp(mask)],
            *([] if self.patches is None else [str(self.patches), self.patches_encoder]),
        ]  # fmt: skip
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode("utf-8", "surrogateescape")).hexdigest()


@dataclass(frozen=True)
class Row:
    """A slide of a job, claimed to be encoded.

    Attributes:
        id: in the table.
        slide: its path, or URL.
        mpp, mask: as the manifest says.
        size_bytes: of its files.
        attempts: how often it was begun, this time included.
    """

    id: int
    slide: str
    mpp: float | None = None
    mask: Path | None = None
    size_bytes: int = 0
    attempts: int = 1


@dataclass(frozen=True)
class Outcome:
    """What became of a slide.

    Attributes:
        features: its feature file; None if it failed.
        reason, message: why it failed: a code, and a line with what to do.
        seconds: from its opening to its end.
        written_bytes: of the feature file.
        tissue_mm2: area of the patches that were encoded; None where nothing was, since the file was whole.
        odd: what looks odd on it, one line each; it is encoded all the same.
        picture: a small picture of a slide that failed or looks odd.
        trace: where in the code it failed; for the log, and only if that is a bug.
    """

    features: Path | None = None
    reason: Reason | None = None
    message: str = ""
    seconds: float = 0.0
    written_bytes: int = 0
    tissue_mm2: float | None = None
    odd: tuple[str, ...] = ()
    picture: Path | None = None
    trace: str = ""

    @classmethod
    def failed(cls, error: HwsiError, seconds: float, *, picture: Path | None = None, trace: str = "") -> Self:
        """Of a slide that an error ended."""
        message = error.what + (f" -> {error.todo}" if error.todo else "")
        return cls(reason=error.reason, message=message, seconds=seconds, picture=picture, trace=trace)

    @property
    def state(self) -> State:
        """``done`` or ``failed``."""
        return "done" if self.reason is None else "failed"


def stamp(path: str | Path) -> list[int] | None:
    """Size and time of change of a file; None where there is none, as of a URL."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return [found.st_size, found.st_mtime_ns]
