"""Projectors begin by making every direction of their encoder's vectors equally loud.

An encoder's vectors vary most in what most of its losses ask for; what one attribute in thirty asks for is a faint
direction, which a language model needs thousands of steps to find. Whitened, it is as loud as any other.
"""

import torch
from torch import Tensor, nn

from hwsi.model.projectors import Projector

_LEAST = 1e-2
"""Directions with less than this share of the mean variance are noise, and are not made louder than those."""


@torch.no_grad()
def whiten(projector: Projector, vectors: Tensor) -> None:
    """Set the first layer of a projector, in place, so that its outputs are uncorrelated with unit variance.

    PCA whitening turned by a random rotation, ``up(x) = Q (C + eps)^-1/2 (x - mean)`` after the projector's norm.

    Args:
        projector: not trained yet. vectors: (n, dim) of a training set, n well above dim.
    """
    x = projector.norm(vectors).double()
    mean = x.mean(0)
    values, axes = torch.linalg.eigh(torch.cov(x.T))
    scale = values.clamp(min=_LEAST * float(values.mean())).rsqrt()
    turn = nn.init.orthogonal_(torch.empty(projector.up.out_features, len(mean))).double()
    weight = turn @ (axes * scale).T
    projector.up.weight.copy_(weight)
    projector.up.bias.copy_(-weight @ mean)
