from __future__ import annotations

import math

import pytest
import torch

from polysense.losses import LocalisationLoss, exp_log

LOGITS = torch.tensor([[[0.0, math.log(3)], [0.0, 0.0]]])
"""Softmax 1/4, 3/4 in the first second, 1/2, 1/2 in the second."""
TARGETS = torch.tensor([[[1.0, 0.0], [1.0, 1.0]]])


def test_exp_log_by_hand() -> None:
    """First second: e^-0.1 log 4; second: (e^-0.1 + e^-0.3) log 2; their mean."""
    expected = (math.exp(-0.1) * math.log(4) + (math.exp(-0.1) + math.exp(-0.3)) * math.log(2)) / 2
    assert exp_log(LOGITS, TARGETS, torch.tensor([0.1, 0.3])).item() == pytest.approx(expected)


def test_padding_does_not_count() -> None:
    found = exp_log(LOGITS, TARGETS, torch.zeros(2), torch.tensor([[True, False]]))
    assert found.item() == pytest.approx(math.log(4))


def test_the_loss_adds_cross_entropy_over_all_classes() -> None:
    """Cross-entropies: log 2, log 4 (sigmoid of log 3 is 3/4); log 2, log 2."""
    loss = LocalisationLoss(2)
    entropy = (math.log(2) + math.log(4) + 2 * math.log(2)) / 4
    expected = entropy + math.exp(-0.1) * (math.log(4) + 2 * math.log(2)) / 2
    assert loss(LOGITS, TARGETS).item() == pytest.approx(expected)
    masked = loss(LOGITS, TARGETS, torch.tensor([[False, True]])).item()
    assert masked == pytest.approx(math.log(2) + math.exp(-0.1) * 2 * math.log(2))


def test_discounts_begin_at_a_tenth_and_are_learned_upwards() -> None:
    loss = LocalisationLoss(3)
    assert loss.discounts.tolist() == pytest.approx([0.1] * 3)
    loss(torch.randn(2, 4, 3), torch.ones(2, 4, 3)).backward()
    assert loss.discounts.grad is not None and bool((loss.discounts.grad < 0).all())
