"""Which of many parts an answer rests on, from its likelihood under random masks: a sparse linear fit.

- As ContextCite (Cohen-Wang et al., 2024) does it, with a prior: the penalty of a part is divided by what a cheap
  ranking thinks of it (the adaptive Lasso of Zou, 2006), so that 64 masks tell what else takes about three per part.
- Solved as a smooth problem with bounds (weights as the difference of two numbers that are never negative).

Notation: n masks, S parts.
"""

import numpy as np
from scipy.optimize import minimize

from hwsi.inference.evidence.worth import Bool, Float64


def sparse_fit(masks: Bool, value: Float64, prior: Float64, *, alpha: float = 0.1) -> Float64:
    """Weights (S,) of parts, in the unit of ``value`` per part.

    Minimises ``|y - Xw|^2 / 2n + alpha * max_s |X_s'y| / n * sum_s |w_s| / p_s`` with X and y centred and p the prior
    scaled to [0.05, 1]; so ``alpha`` does not depend on the unit.

    Args:
        masks: (n, S), True where a part was there. value: (n,) of the answer under each mask.
        prior: (S,) of a cheap ranking; only its order of magnitude matters, negative counts as nothing.
        alpha: share of the largest penalty that still leaves a weight.
    """
    n, parts = masks.shape
    x = masks - masks.mean(0)
    y = value - value.mean()
    top = float(prior.max(initial=0.0))
    trust = np.clip(prior / top, 0.05, 1.0) if top > 0 else np.ones(parts)
    penalty = alpha * float(np.abs(x.T @ y).max(initial=0.0)) / n / trust

    def loss(two: Float64) -> tuple[float, Float64]:
        plus, minus = two[:parts], two[parts:]
        rest = x @ (plus - minus) - y
        slope = x.T @ rest / n
        return float(rest @ rest / (2 * n) + penalty @ (plus + minus)), np.concatenate([slope, -slope]) + np.tile(
            penalty, 2
        )

    found = minimize(loss, np.zeros(2 * parts), jac=True, bounds=[(0, None)] * (2 * parts), method="L-BFGS-B").x
    return np.asarray(found[:parts] - found[parts:])
