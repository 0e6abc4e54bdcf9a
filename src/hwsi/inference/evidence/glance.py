"""The cheap map: a few random halves of the slide, and where the model's heads looked under them.

- Attention times its gradient, summed over heads (``model/looking.py``), says to first order which token spoke for the
  words. Taken under random halves, since at the whole slide a sure answer has almost no gradient.
- The same passes say how likely the words were under each half. So the first-order map is the prior mean of a linear
  model, its size the prior spread, and the few likelihoods correct it: ridge regression with a prior, in closed form.
- On phantoms 8 halves predict other halves about as well as marginal worth does with ten times the passes; attention
  alone, with learned weights for the heads (AT2), hardly does (docs/evidence.md has the figures).

Notation: n halves, N nodes, U units.
"""

import numpy as np

from hwsi.inference.evidence.worth import SLIDE, Bool, Float64, Int, Worth, depths

_SPREAD = 0.02
"""Of the largest relevance: what a node that nobody looked at may still be worth."""
_NOISE = 0.1
"""Of the mean variance of a half's value: what a linear map cannot say."""


def glance_map(parent: Int, halves: Bool, values: Float64, relevance: Float64) -> Worth:
    """Worth of every region, patch and cell in nats.

    Args:
        parent: (N,). halves: (n, N) keep masks. values: (n, U) under each. relevance: (U, N), nats to first order.
    """
    nodes = np.flatnonzero(depths(parent) > SLIDE)
    x = (halves - halves.mean(0))[:, nodes]
    centred = values - values.mean(0)
    found = [_posterior(x, centred[:, u], relevance[u, nodes]) for u in range(values.shape[1])]
    return Worth(nodes, np.stack(found, 1))


def _posterior(x: Float64, y: Float64, first_order: Float64) -> Float64:
    """Mean of the weights (N,) given y = x w + noise and what the gradients said of w."""
    top = float(np.abs(first_order).max(initial=0.0))
    if top == 0:
        return np.zeros(x.shape[1])
    said = x @ first_order
    scale = max(float(said @ y) / max(float(said @ said), 1e-12), 0.0)
    mean, spread = scale * first_order, np.abs(first_order) / top + _SPREAD
    kernel = (x * spread) @ x.T
    noise = _NOISE * float(np.trace(kernel)) / len(kernel)
    rest = np.linalg.solve(kernel + noise * np.eye(len(kernel)), y - x @ mean)
    return np.asarray(mean + spread * (x.T @ rest))
