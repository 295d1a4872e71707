from __future__ import annotations

import pytest
import torch

from polysense.losses import negative_log_likelihood, vclub


def test_the_likelihood_by_hand() -> None:
    """Errors 1 and 2 with variances 1 and e: 1 + 0 and 4 / e + 1."""
    mean, log_variance = torch.tensor([[[0.0], [0.0]]]), torch.tensor([[[0.0], [1.0]]])
    loss = negative_log_likelihood(mean, log_variance, torch.tensor([[[1.0], [2.0]]]))
    assert loss.item() == pytest.approx((1 + 4 / 2.718281828 + 1) / 2)


def test_the_bound_by_hand() -> None:
    """q predicts exactly; the other sample's y is 3 away: 9 / 1 / 2."""
    y = torch.tensor([[[0.0]], [[3.0]]])
    assert vclub(y, torch.zeros_like(y), y, torch.tensor([1, 0])).item() == pytest.approx(4.5)


def test_no_exchange_no_information() -> None:
    y = torch.randn(4, 3, 2)
    assert vclub(torch.randn_like(y), torch.randn_like(y), y, torch.arange(4)).item() == 0


def test_squared_errors_are_averaged_over_time_before_the_division() -> None:
    mean, y = torch.zeros(2, 2, 1), torch.tensor([[[0.0], [0.0]], [[1.0], [3.0]]])
    log_variance = torch.tensor([[[0.0], [2.0]], [[0.0], [2.0]]])
    expected = ((5 - 0) + (0 - 5)) / 2.718281828 / 2 / 2
    assert vclub(mean, log_variance, y, torch.tensor([1, 0])).item() == pytest.approx(expected, abs=1e-6)
