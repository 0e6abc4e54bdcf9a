"""Closed questions: which of the given options the model holds most likely.

- An option's score is the sum of the log-probabilities of its tokens and of the end token that closes it, so that
  an option which is the beginning of another one is not favoured.
- The probabilities are a softmax over the options: what the model would say if it had to choose. Not calibrated.
"""

import numpy as np
from numpy.typing import NDArray

Float64 = NDArray[np.float64]


def option_probs(log_p: Float64) -> Float64:
    """Probabilities over the last axis (..., C) from summed log-probabilities of the options (..., C)."""
    z = log_p - log_p.max(axis=-1, keepdims=True)
    p = np.exp(z)
    return np.asarray(p / p.sum(axis=-1, keepdims=True))


def log_odds(log_p: Float64, chosen: int) -> Float64:
    """Log-odds (...) of option ``chosen`` against all the others together, from summed log-probabilities (..., C)."""
    others = np.delete(log_p, chosen, axis=-1)
    top = others.max(axis=-1)
    rest = top + np.log(np.exp(others - top[..., None]).sum(axis=-1))
    return np.asarray(log_p[..., chosen] - rest)
