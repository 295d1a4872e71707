from __future__ import annotations

import torch
from torch.nn import functional as F

from polysense.losses import step_error


def test_sequences_of_one_length_give_the_plain_mean_squared_error() -> None:
    values, target = torch.randn(2, 3, 4, 5), torch.randn(2, 3, 4, 5)
    torch.testing.assert_close(step_error(values, target), F.mse_loss(values, target))
    torch.testing.assert_close(
        step_error(values, target, torch.ones(2, 3, dtype=torch.bool)), F.mse_loss(values, target)
    )


def test_padding_is_left_out_by_hand() -> None:
    """Errors 1 and 9 | 4 and padding | only padding: (5 + 4 + 0) / 3."""
    values = torch.tensor([[[1.0], [3.0]], [[2.0], [77.0]], [[5.0], [5.0]]])
    mask = torch.tensor([[True, True], [True, False], [False, False]])
    assert step_error(values, torch.zeros_like(values), mask).item() == 3.0
