from __future__ import annotations

import math

import pytest
import torch

from polysense.losses import dice, mask_loss

MASKS = torch.tensor([[[1.0, 0.0], [0.0, 0.0]], [[1.0, 1.0], [1.0, 1.0]]])


def test_dice_by_hand() -> None:
    """Everywhere 1/2: (2 * 0.5 + 1) / (2 + 1 + 1) = 1/2 and (2 * 2 + 1) / (2 + 4 + 1) = 5/7."""
    assert dice(torch.zeros(2, 2, 2), MASKS).item() == pytest.approx(1 - (1 / 2 + 5 / 7) / 2)


def test_cross_entropy_is_added() -> None:
    logits = torch.zeros(2, 2, 2)
    assert mask_loss(logits, MASKS).item() == pytest.approx(math.log(2) + dice(logits, MASKS).item())


def test_the_right_mask_costs_nothing_even_where_it_is_empty() -> None:
    masks = torch.stack([MASKS[0], torch.zeros(2, 2)])
    assert mask_loss(40 * (2 * masks - 1), masks).item() == pytest.approx(0, abs=1e-6)
