"""What was learned of a model about its errors, on slides apart: a small file beside its weights.

- ``evidence.json`` holds the function that makes a calibrated confidence, and the calibration patients' confidences,
  from which any risk's threshold follows.
- It names the digest of the weights that it was made with: of others it says nothing, and is not used.
- ``hwsi bench evidence calibrate`` makes it from phantom slides of the split ``val``.
"""

import json
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np

from hwsi.errors import HwsiError, Reason
from hwsi.features.atomic import write_atomic
from hwsi.inference.abstention import Confidence, needed, threshold
from hwsi.presets import load_preset

NAME = "evidence.json"
SCHEMA = "hwsi.evidence/1"


@dataclass(frozen=True)
class Calibration:
    """What is known of a model beside its weights.

    Attributes:
        weights_sha256: of the model. made_of: words on the slides that it was learned from.
        confidence: of the answer to a closed question, from :func:`hwsi.inference.abstention.known_closed`.
        patients: (calibrated confidence, right), one answer for each calibration patient; none of them was in the fit.
    """

    weights_sha256: str
    made_of: str
    confidence: Confidence
    patients: tuple[tuple[float, bool], ...]

    def threshold(self, risk: float) -> float:
        """Lowest confidence at which an answer may be given.

        Raises:
            HwsiError: OPTION_INVALID where no risk of this size can be shown to hold.
        """
        if not 0 < risk < 1:
            raise HwsiError(Reason.OPTION_INVALID, f"a risk of {risk}", "give a share of wrong answers between 0 and 1")
        sure = np.array([c for c, _ in self.patients])
        right = np.array([r for _, r in self.patients], bool)
        found = threshold(sure, right, risk)
        if found is None:
            what = f"{len(sure)} calibration patients cannot show a risk of {risk:g}"
            todo = f"accept a larger risk, or calibrate with more ({needed(risk)} without an error are the least)"
            raise HwsiError(Reason.OPTION_INVALID, what, todo)
        return found


def write_calibration(path: Path, calibration: Calibration) -> None:
    """Write it, whole or not at all. Errors: output_unwritable, disk_full."""
    c = calibration.confidence
    plain = {
        "schema": SCHEMA,
        "weights_sha256": calibration.weights_sha256,
        "made_of": calibration.made_of,
        "confidence": {
            "names": list(c.names),
            "mean": _digits(c.mean),
            "scale": _digits(c.scale),
            "weight": _digits(c.weight),
            "bias": round(c.bias, 6),
        },
        "patients": [[round(p, 6), bool(right)] for p, right in calibration.patients],
    }
    write_atomic(path, (json.dumps(plain, indent=1) + "\n").encode())


def read_calibration(path: Path) -> Calibration:
    """Read one. Raises HwsiError: DATA_MISSING, DATA_INVALID."""
    try:
        plain: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if plain["schema"] != SCHEMA:
            raise ValueError(f"its schema is {plain['schema']}")
        c = plain["confidence"]
        confidence = Confidence(
            tuple(c["names"]), tuple(c["mean"]), tuple(c["scale"]), tuple(c["weight"]), float(c["bias"])
        )
        patients = tuple((float(p), bool(right)) for p, right in plain["patients"])
        return Calibration(plain["weights_sha256"], plain["made_of"], confidence, patients)
    except FileNotFoundError:
        raise HwsiError(Reason.DATA_MISSING, f"no calibration at {path}", "run hwsi bench evidence calibrate") from None
    except (ValueError, KeyError, TypeError) as error:
        raise HwsiError(Reason.DATA_INVALID, f"{path} is no calibration: {error}", "make it again") from error


def calibration_path(preset: str) -> Path:
    """Where the calibration of a preset's model lies, or would."""
    model = load_preset(preset).language_model
    if model == "nano":
        return Path(str(files("hwsi") / "weights" / "nano" / "model" / NAME))
    return Path(model) / NAME


@lru_cache(maxsize=4)
def find_calibration(preset: str, weights_sha256: str) -> Calibration | None:
    """The calibration of a model with these weights; None if there is none."""
    path = calibration_path(preset)
    if not path.is_file():
        return None
    found = read_calibration(path)
    return found if found.weights_sha256 == weights_sha256 else None


def _digits(x: tuple[float, ...]) -> list[float]:
    return [round(v, 6) for v in x]
