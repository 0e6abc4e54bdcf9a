"""DPO against its formula."""

import math

import pytest
import torch

from hwsi.training.objectives.preference import answer_log_probs, dpo_loss


def test_value_and_rewards() -> None:
    found = dpo_loss(*(torch.tensor([x, 0.0]) for x in (-1.0, -2.0, -1.5, -1.0)), beta=0.5)
    first = -math.log(1 / (1 + math.exp(-0.5 * ((-1.0 + 1.5) - (-2.0 + 1.0)))))
    assert found.loss.item() == pytest.approx((first + math.log(2)) / 2)
    assert found.chosen.tolist() == [0.25, 0]
    assert found.rejected.tolist() == [-0.5, 0]
    assert found.accuracy.item() == 0.5


def test_gradient_and_the_fixed_reference() -> None:
    policy = [torch.randn(3, dtype=torch.float64, requires_grad=True) for _ in range(2)]
    reference = [torch.randn(3, dtype=torch.float64, requires_grad=True) for _ in range(2)]
    assert torch.autograd.gradcheck(lambda a, b: dpo_loss(a, b, *reference).loss, policy)
    dpo_loss(*policy, *reference).loss.backward()
    assert all(r.grad is None for r in reference)
    assert (policy[0].grad < 0).all()
    assert (policy[1].grad > 0).all()


def test_log_probs_of_labelled_tokens_only() -> None:
    logits = torch.randn(2, 4, 5)
    labels = torch.tensor([[-100, -100, 3, 1], [-100, 2, -100, -100]])
    p = logits.log_softmax(-1)
    expected = [p[0, 1, 3] + p[0, 2, 1], p[1, 0, 2]]
    assert torch.allclose(answer_log_probs(logits, labels), torch.stack(expected))
    assert answer_log_probs(logits, torch.full((2, 4), -100)).tolist() == [0, 0]
