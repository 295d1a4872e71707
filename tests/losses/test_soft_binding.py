from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional as F

from polysense.losses import label_similarity, soft_binding

AXES = torch.eye(2)


def test_label_similarity_by_hand() -> None:
    """Dot products (1, 0) at scale ln 3 give shares 3/4 and 1/4."""
    shares = label_similarity(AXES, AXES, math.log(3.0))
    torch.testing.assert_close(shares, torch.tensor([[0.75, 0.25], [0.25, 0.75]]))


def test_soft_binding_by_hand() -> None:
    """Target (3/4, 1/4), sample on the second axis gives (1/4, 3/4): KL = 1/2 ln 3."""
    loss = soft_binding(AXES[1:], torch.tensor([0]), AXES, AXES, math.log(3.0))
    assert loss.item() == pytest.approx(0.5 * math.log(3.0), abs=1e-6)


def test_the_loss_is_the_mean_over_samples() -> None:
    loss = soft_binding(AXES, torch.tensor([0, 0]), AXES, AXES, math.log(3.0))
    assert loss.item() == pytest.approx(0.25 * math.log(3.0), abs=1e-6)


def test_samples_that_lie_on_their_own_label_lose_nothing() -> None:
    own, other = (F.normalize(torch.randn(n, 6), dim=-1) for n in (4, 5))
    labels = torch.tensor([3, 0, 1])
    assert soft_binding(own[labels], labels, own, other, 20.0).item() == pytest.approx(0, abs=1e-6)


def test_only_the_samples_receive_gradients() -> None:
    own, other = (F.normalize(torch.randn(n, 6), dim=-1).requires_grad_() for n in (4, 5))
    samples = F.normalize(torch.randn(3, 6), dim=-1).requires_grad_()
    soft_binding(samples, torch.tensor([0, 1, 2]), own, other.detach(), 20.0).backward()
    assert samples.grad is not None
    assert own.grad is None
