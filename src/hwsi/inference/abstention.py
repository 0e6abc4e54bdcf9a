"""When the model should be silent: a confidence that means something, and a threshold for a risk the user accepts.

- Confidence is a logistic function of what is known of an answer, fitted on calibration patients; the benchmark prints
  its error over 15 bins of equal mass.
- The threshold is the lowest at which the error among kept answers is still below the risk with probability 1 - delta,
  by the exact bound of Clopper and Pearson (1934) tested from strict to loose (fixed sequence: the first failure ends
  it, so no correction for many tests is needed; Angelopoulos et al., Learn then Test, 2021).
- It holds for patients like those of the calibration. With few of them no threshold can be shown to hold; then
  everything is withheld, and the caller is told how many would be needed.

Notation: n answers, f numbers known of each.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.stats import beta

Float64 = NDArray[np.float64]
Bool = NDArray[np.bool_]

DELTA = 0.05
"""The threshold may fail to hold with this probability, over the choice of the calibration patients."""
_RIDGE = 1e-3
_MOST_ADDED = 10.0
"""nats; beyond, more says no more, and would only pull at the fit."""


@dataclass(frozen=True)
class Confidence:
    """A logistic function of what is known of an answer.

    Attributes:
        names: of the numbers it reads, in order. mean, scale, weight: one for each. bias: the rest.
    """

    names: tuple[str, ...]
    mean: tuple[float, ...]
    scale: tuple[float, ...]
    weight: tuple[float, ...]
    bias: float

    def __call__(self, known: Float64) -> Float64:
        """Probability (n,) that the answer is right, of (n, f) numbers."""
        x = (np.atleast_2d(known) - np.array(self.mean)) / np.array(self.scale)
        return np.asarray(1 / (1 + np.exp(-(x @ np.array(self.weight) + self.bias))))


def fit_confidence(names: Sequence[str], known: Float64, right: Bool) -> Confidence:
    """Maximum likelihood with a small ridge.

    Args:
        names: of the columns. known: (n, f). right: (n,).
    """
    mean, scale = known.mean(0), known.std(0)
    scale = np.where(scale > 0, scale, 1.0)
    x = np.concatenate([(known - mean) / scale, np.ones((len(known), 1))], 1)
    sign = np.where(right, 1.0, -1.0)

    def loss(w: Float64) -> tuple[float, Float64]:
        margin = sign * (x @ w)
        slope = -(sign / (1 + np.exp(margin)))[:, None] * x
        ridge = _RIDGE * np.append(w[:-1], 0)
        return float(np.logaddexp(0, -margin).mean() + ridge @ w / 2), slope.mean(0) + ridge

    w = minimize(loss, np.zeros(x.shape[1]), jac=True, method="L-BFGS-B").x
    return Confidence(tuple(names), _floats(mean), _floats(scale), _floats(w[:-1]), float(w[-1]))


def threshold(confidence: Float64, right: Bool, risk: float, *, delta: float = DELTA) -> float | None:
    """Lowest confidence from which on answers may be given; None where none can be shown to hold the risk.

    Args:
        confidence: (n,) of one answer per calibration patient (or of independent answers). right: (n,).
        risk: accepted share of wrong answers among those given, in (0, 1).
    """
    order = np.argsort(-confidence, kind="stable")
    sure, wrong = confidence[order], np.cumsum(~right[order])
    found = None
    # fewer answers could not show it even without an error, so the sequence starts where it can
    for kept in range(needed(risk, delta), len(sure) + 1, max(1, len(sure) // 100)):
        # answers of equal confidence are kept or withheld together
        while kept < len(sure) and sure[kept] == sure[kept - 1]:
            kept += 1
        if upper_bound(int(wrong[kept - 1]), kept, delta) > risk:
            break
        found = float(sure[kept - 1])
    return found


def upper_bound(errors: int, kept: int, delta: float = DELTA) -> float:
    """Clopper and Pearson's upper bound of an error rate at confidence 1 - delta."""
    return 1.0 if errors >= kept else float(beta.ppf(1 - delta, errors + 1, kept - errors))


def needed(risk: float, delta: float = DELTA) -> int:
    """How many answers without an error it takes to show that a risk holds."""
    return math.ceil(math.log(delta) / math.log(1 - risk))


def calibration_error(confidence: Float64, right: Bool, bins: int = 15) -> float:
    """Expected calibration error over bins of equal mass."""
    order = np.argsort(confidence, kind="stable")
    parts = np.array_split(order, min(bins, len(order)))
    return float(sum(len(p) * abs(right[p].mean() - confidence[p].mean()) for p in parts) / len(order))


CLOSED = ("log p of the option", "margin to the next", "added by the slide", "log p without the slide")
"""What is known of the answer to a closed question, in the order of :func:`known_closed`."""


def known_closed(seen: Float64, blind: Float64) -> Float64:
    """What is known (4,) of the likeliest option, from log-probabilities (C,) with the slide and without it."""
    with_slide, without = _log_shares(seen), _log_shares(blind)
    chosen = int(seen.argmax())
    next_best = float(np.delete(seen, chosen).max()) if len(seen) > 1 else float(seen[chosen])
    added = min(float(with_slide[chosen] - without[chosen]), _MOST_ADDED)
    return np.array([with_slide[chosen], min(float(seen[chosen]) - next_best, _MOST_ADDED), added, without[chosen]])


def _log_shares(log_p: Float64) -> Float64:
    top = log_p - log_p.max()
    return np.asarray(top - np.log(np.exp(top).sum()))


def _floats(x: Float64) -> tuple[float, ...]:
    return tuple(float(v) for v in x)
