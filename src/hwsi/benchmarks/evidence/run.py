"""The measures by name, each run once and kept: what stands in the run's folder is not measured again.

- A measure's lines go to ``MEASURE.json``, with what they depend on (model, its weights, slides, seed); of another key
  it is made anew. ``result.json`` holds all lines.
"""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hwsi.benchmarks.evidence import cells, citing, compute, cost, faithful, leaving_out, looking, risk, scaling
from hwsi.benchmarks.evidence.figure import Line, read_line
from hwsi.benchmarks.evidence.material import Material, Progress, make_material
from hwsi.errors import HwsiError, Reason
from hwsi.features.atomic import write_atomic
from hwsi.inference.calibration import calibration_path, find_calibration, write_calibration
from hwsi.inference.loading import load_model

if TYPE_CHECKING:
    from rich.table import Table

_Measure = Callable[[Material, int], list[Line]]
_REVISION = 1  # of what is measured and how


def _risk(material: Material, seed: int) -> list[Line]:
    slide = material.slides[0]
    known = find_calibration(slide.model, slide.session.provenance.weights_sha256)
    return risk.measure(material, seed, known)


MEASURES: dict[str, _Measure] = {
    "leaving-out": leaving_out.measure,
    "lds": faithful.lds,
    "srg": faithful.relevance_gain,
    "first-box": citing.first_box,
    "citations": citing.citations,
    "cells": cells.measure,
    "evidence-alone": citing.evidence_alone,
    "silence": looking.silence,
    "pairs": looking.pairs,
    "without-slide": looking.without_slide,
    "risk": _risk,
    "compute": compute.measure,
    "attention": lambda material, seed: scaling.measure(),
    "sanity": faithful.sanity,
    "cost": cost.measure,
}


@dataclass(frozen=True)
class Result:
    """All lines of a run."""

    model: str
    weights_sha256: str
    slides: int
    seed: int
    lines: tuple[Line, ...]
    warnings: tuple[str, ...] = field(default=("Phantom slides only: these figures say nothing about real tissue.",))

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON-ready data."""
        head = {"model": self.model, "weights_sha256": self.weights_sha256, "slides": self.slides, "seed": self.seed}
        return {**head, "lines": [made.plain() for made in self.lines], "warnings": list(self.warnings)}

    def table(self) -> "Table":
        """For the terminal."""
        from rich.table import Table

        table = Table(title=f"evidence: {self.model}, {self.slides} slides, seed {self.seed}")
        for name in ("what", "figure", "95 %", "n", "floor", "aim", "holds", "beside"):
            table.add_column(name, justify="left" if name in ("what", "holds", "beside") else "right")
        for made in self.lines:
            sign = "at most " if made.less else ""
            table.add_row(
                made.what,
                _digits(made.value),
                f"{_digits(made.low)} to {_digits(made.high)}" if made.low is not None else "",
                str(made.n or ""),
                sign + _digits(made.floor) if made.floor is not None else "",
                sign + _digits(made.aim) if made.aim is not None else "",
                {None: "", True: "yes", False: "NO"}[made.holds],
                ", ".join(f"{name} {_digits(value)}" for name, value in made.beside.items()),
            )
        table.caption = "\n".join(self.warnings)
        return table


def run(
    names: Sequence[str], out: Path, *, model: str = "nano", slides: int = 20, seed: int = 0,
    progress: Progress | None = None,
) -> Result:  # fmt: skip
    """Measure on held-out phantoms; goes on where it stopped.

    Args:
        names: of ``MEASURES``; none is all. out: the run's folder.

    Errors: option_invalid for a measure that is not there; as of drawing, encoding and loading.
    """
    chosen = list(dict.fromkeys(names)) or list(MEASURES)
    for name in chosen:
        if name not in MEASURES:
            raise HwsiError(Reason.OPTION_INVALID, f"no measure {name!r}", f"choose of: {', '.join(MEASURES)}")
    say = progress or (lambda stage, done, total: None)
    _, _, sha = load_model(model)
    known = find_calibration(model, sha)
    calibration = hashlib.sha256(repr(known).encode()).hexdigest()[:12]
    material: Material | None = None
    lines: list[Line] = []
    for n, name in enumerate(chosen):
        key = {"model": model, "weights": sha, "slides": slides, "seed": seed, "revision": _REVISION}
        key |= {"calibration": calibration} if name == "risk" else {}
        file = out / f"{name}.json"
        kept = _kept(file, key)
        if kept is None:
            if material is None and name != "attention":
                material = make_material(out, slides, seed, model, progress=say)
            kept = MEASURES[name](material, seed) if material else scaling.measure()
            plain = {"key": key, "lines": [made.plain() for made in kept]}
            write_atomic(file, json.dumps(plain, indent=1, allow_nan=False).encode())
        lines += kept
        say("measures", n + 1, len(chosen))
    result = Result(model, sha, slides, seed, tuple(lines))
    write_atomic(out / "result.json", json.dumps(result.to_dict(), indent=1, allow_nan=False).encode())
    return result


def calibrate(
    out: Path, *, model: str = "nano", slides: int = 120, seed: int = 0, to: Path | None = None,
    progress: Progress | None = None,
) -> Path:  # fmt: skip
    """Calibrate a model on phantoms of the split ``val`` and write the file beside its weights, or to ``to``."""
    material = make_material(out, slides, seed, model, split="val", progress=progress)
    path = to or calibration_path(model)
    write_calibration(path, risk.calibrate(material, f"{slides} phantom slides of the split val, seed {seed}"))
    find_calibration.cache_clear()
    return path


def _kept(file: Path, key: dict[str, Any]) -> list[Line] | None:
    if not file.is_file():
        return None
    plain = json.loads(file.read_text(encoding="utf-8"))
    return [read_line(made) for made in plain["lines"]] if plain["key"] == key else None


def _digits(value: float | None) -> str:
    if value is None or value != value:
        return "-"
    return f"{value:.1e}" if 0 < abs(value) < 5e-4 else f"{value:.3f}" if abs(value) < 10 else f"{value:.1f}"
