"""Direct preference optimisation: the better answer gains on the reference, the worse one loses (arXiv:2305.18290).

Notation: B pairs of answers, T tokens, V vocabulary.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

IGNORE = -100


def answer_log_probs(logits: Tensor, labels: Tensor) -> Tensor:
    """Summed log-probability of the labelled tokens of each row.

    Args:
        logits: (B, T, V); those at t speak of the token at t + 1.
        labels: (B, T) int64, -100 where nothing is counted.

    Returns:
        (B,) float32.
    """
    wanted = labels[:, 1:]
    there = wanted != IGNORE
    chosen = logits[:, :-1].float().log_softmax(-1).gather(-1, wanted.clamp(min=0)[..., None])[..., 0]
    return torch.where(there, chosen, torch.zeros_like(chosen)).sum(-1)


@dataclass(frozen=True)
class Preference:
    """``loss``: scalar. ``chosen``, ``rejected``: (B,) rewards beta * log(policy / reference), without gradient."""

    loss: Tensor
    chosen: Tensor
    rejected: Tensor

    @property
    def accuracy(self) -> Tensor:
        """Share of pairs in which the chosen answer has the larger reward."""
        return (self.chosen > self.rejected).float().mean()


def dpo_loss(
    chosen: Tensor, rejected: Tensor, reference_chosen: Tensor, reference_rejected: Tensor, beta: float = 0.1
) -> Preference:
    """-log sigmoid(beta * ((chosen - reference_chosen) - (rejected - reference_rejected))), mean over pairs.

    Args:
        chosen, rejected: (B,) log-probabilities of whole answers under the policy.
        reference_chosen, reference_rejected: (B,) under the reference, which gets no gradient.
        beta: how dear it is to leave the reference.
    """
    gain = chosen - reference_chosen.detach()
    loss = rejected - reference_rejected.detach()
    return Preference(-F.logsigmoid(beta * (gain - loss)).mean(), beta * gain.detach(), beta * loss.detach())
