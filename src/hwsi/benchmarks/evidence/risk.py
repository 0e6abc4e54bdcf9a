"""Calibrated confidence, and whether a risk that a user accepts holds.

- Calibration: a logistic function of what is known of an answer, from one half of the calibration patients; the other
  half's confidences, one answer for each patient, give the threshold of any risk. Both on slides of the split ``val``.
- Calibration error: 15 bins of equal mass over the answers about held-out slides.
- Risk: the patients' answers are split at random a hundred times into calibration and test; a threshold is drawn from
  the first by the exact bound, and the second's error among given answers must lie within the risk.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from hwsi.benchmarks.evidence.figure import Line, line
from hwsi.benchmarks.evidence.material import Case, Material
from hwsi.inference.abstention import CLOSED, calibration_error, fit_confidence, known_closed, threshold
from hwsi.inference.calibration import Calibration

RESAMPLES = 100
RISK = 0.1
_BINS = 15


def answers(cases: Sequence[Case]) -> tuple[NDArray[np.float64], NDArray[np.bool_], list[str]]:
    """What is known (n, 4) of each answer, whether it is right, and whose slide it is about."""
    known, right = [], []
    for case in cases:
        seen, blind = case.slide.session.choice_log_probs(case.words, case.choices)
        known.append(known_closed(seen, blind))
        right.append(case.choices[int(seen.argmax())] == case.answer)
    return np.array(known).reshape(-1, len(CLOSED)), np.array(right, bool), [c.patient for c in cases]


def calibrate(material: Material, made_of: str) -> Calibration:
    """Fit on half of the patients, keep the confidences of the others; both are decided by the patients' order."""
    known, right, patients = answers(material.cases)
    names = sorted(set(patients))
    fit = np.array([names.index(p) % 2 == 0 for p in patients])
    confidence = fit_confidence(CLOSED, known[fit], right[fit])
    sure = confidence(known)
    held = _one_each(patients, ~fit, np.random.default_rng(0))
    sha = material.slides[0].session.provenance.weights_sha256
    return Calibration(sha, made_of, confidence, tuple((float(sure[i]), bool(right[i])) for i in held))


def measure(material: Material, seed: int, calibration: Calibration | None) -> list[Line]:
    """Calibration error, and how often a risk holds over resamples.

    Args:
        calibration: of the model; without one the raw probability of the option is measured.
    """
    known, right, patients = answers(material.cases)
    raw = np.exp(known[:, 0])
    sure = raw if calibration is None else calibration.confidence(known)

    def error(counts: NDArray[np.float64]) -> float:
        rows = np.repeat(np.arange(len(right)), counts.astype(np.int64))
        return calibration_error(sure[rows], right[rows], _BINS)

    which = "calibrated" if calibration else "raw"
    held, given = _resampled(sure, right, patients, seed)
    beside = {"raw": calibration_error(raw, right, _BINS), "accuracy": float(right.mean())}
    about = {"risk": RISK, "answers given": given}
    return [
        line("risk", f"calibration error, {which}", [0.0] * len(right), patients, figure=error, floor=0.05, aim=0.02,
             less=True, beside=beside),
        line("risk", f"resamples of {RESAMPLES} within the risk", [held], ["all"], floor=95.0, aim=99.0, beside=about),
    ]  # fmt: skip


def _resampled(
    sure: NDArray[np.float64], right: NDArray[np.bool_], patients: Sequence[str], seed: int
) -> tuple[float, float]:
    """How many of 100 splits hold the risk, and the share of answers that they give."""
    names = sorted(set(patients))
    rng = np.random.default_rng([seed, 4])
    held, given = 0, []
    everything = np.ones(len(sure), bool)
    for _ in range(RESAMPLES):
        calibrating = set(rng.permutation(names)[: len(names) // 2])
        mine = np.array([p in calibrating for p in patients])
        one = _one_each(patients, mine & everything, rng)
        least = threshold(sure[one], right[one], RISK)
        kept = ~mine & (sure >= (np.inf if least is None else least))
        held += not kept.any() or float((~right[kept]).mean()) <= RISK
        given.append(float(kept.sum() / max((~mine).sum(), 1)))
    return float(held), float(np.mean(given))


def _one_each(patients: Sequence[str], which: NDArray[np.bool_], rng: np.random.Generator) -> list[int]:
    """One row of each patient among ``which``: rows of a patient are not independent."""
    rows: dict[str, list[int]] = {}
    for i in np.flatnonzero(which):
        rows.setdefault(patients[int(i)], []).append(int(i))
    return [own[int(rng.integers(len(own)))] for _, own in sorted(rows.items())]
