"""How fast a machine encodes: what ``hwsi bench encode`` measures and ``hwsi plan`` reckons with.

- Time goes with the area of tissue. Of each measured slide its own seconds are kept, so that a plan knows how much
  slides differ, and how little a few of them say.
- A file of rates belongs to a preset, a precision, a device and a number of threads: it says so, and is JSON.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

from hwsi.errors import HwsiError, Reason
from hwsi.features.atomic import write_atomic

SCHEMA = "hwsi.rates/1"


@dataclass(frozen=True)
class Measured:
    """One slide: mm² of tissue encoded, seconds of a worker, bytes of its file and of what was written."""

    mm2: float
    seconds: float
    slide_bytes: int
    written_bytes: int


@dataclass(frozen=True)
class Rates:
    """What one worker does.

    Attributes:
        preset, precision, device, threads: with what.
        hwsi, machine: of which version, on what.
        slides: those that were measured; their seconds add up to the wall's.
        model_share: fraction of the wall time in which a model was at work.
        tissue_s_per_mm2: finding tissue, for a mm² of what is encoded.
        read_patches_per_s: patches' worth of pixels that are read and decoded.
        read_mb_per_s: MB of slide files for each second of reading, if a file held nothing but its tissue.
        patches_per_s: encoder -> patches.
        cells_per_s: found and encoded.
        cells_per_mm2: found.
        write_mb_per_s: MB of feature files.
        load_s: loading the encoders, once for each worker.
    """

    preset: str
    precision: str
    device: str
    threads: int
    hwsi: str
    machine: str
    slides: tuple[Measured, ...]
    model_share: float
    tissue_s_per_mm2: float
    read_patches_per_s: float
    read_mb_per_s: float
    patches_per_s: dict[str, float]
    cells_per_s: float
    cells_per_mm2: float
    write_mb_per_s: float
    load_s: float

    @property
    def seconds_per_mm2(self) -> float:
        """Of a worker, all in all."""
        return sum(s.seconds for s in self.slides) / self.mm2

    @property
    def mm2(self) -> float:
        """Tissue that was measured."""
        return sum(s.mm2 for s in self.slides)

    @property
    def slide_bytes_per_mm2(self) -> float:
        """Of files, for a mm² of tissue."""
        return sum(s.slide_bytes for s in self.slides) / self.mm2

    @property
    def written_bytes_per_mm2(self) -> float:
        """Of feature files."""
        return sum(s.written_bytes for s in self.slides) / self.mm2

    def to_dict(self) -> dict[str, Any]:
        """As JSON has it."""
        return {"schema": SCHEMA, **asdict(self)}

    def write(self, path: Path) -> None:
        """Keep them. Raises HwsiError(DISK_FULL, OUTPUT_UNWRITABLE)."""
        write_atomic(path, (json.dumps(self.to_dict(), indent=2) + "\n").encode())

    @classmethod
    def read(cls, path: Path) -> Self:
        """Rates as they were kept. Raises HwsiError(DATA_MISSING, DATA_INVALID)."""
        todo = "hand in what hwsi bench encode --out wrote"
        try:
            told = json.loads(path.read_text("utf-8"))
            if told.pop("schema") != SCHEMA:
                raise ValueError("of another schema")
            made = cls(**(told | {"slides": tuple(Measured(**s) for s in told["slides"])}))
            if not made.slides or not made.mm2 > 0 or not made.seconds_per_mm2 > 0:
                raise ValueError("without tissue or time")
        except OSError as error:
            raise HwsiError(Reason.DATA_MISSING, f"cannot read {path}: {error.strerror}", todo) from error
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise HwsiError(Reason.DATA_INVALID, f"{path} holds no rates: {error}", todo) from error
        return made
