from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from polysense.errors import ConfigError
from polysense.merging import running_average, slerp
from polysense.merging.slerp import angle_between


def merge(previous: Tensor, current: Tensor, stage: int = 2, **options: Any) -> Tensor:
    return slerp({"w": previous}, {"w": current}, stage=stage, **options)["w"]


def test_half_way_between_two_axes_by_hand() -> None:
    half = math.sqrt(0.5)
    torch.testing.assert_close(merge(torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0])), torch.tensor([half, half]))


def test_a_third_of_a_right_angle_by_hand() -> None:
    merged = merge(torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0]), stage=3)
    torch.testing.assert_close(merged, torch.tensor([math.cos(math.pi / 6), math.sin(math.pi / 6)]))


def test_the_norm_is_kept_where_both_have_it() -> None:
    previous, current = (torch.nn.functional.normalize(torch.randn(4, 30).flatten(), dim=0) for _ in range(2))
    assert merge(previous, current, stage=3).norm().item() == pytest.approx(1.0, abs=1e-6)
    assert merge(previous, current, weight=1.0).equal(current)


@pytest.mark.parametrize("factor", [1.0, 1.5, 1 + 1e-6, -1.0, 0.0])
def test_parallel_opposite_and_zero_tensors_are_interpolated_straight(factor: float) -> None:
    previous = torch.randn(3, 8)
    expected = running_average({"w": previous}, {"w": factor * previous}, stage=3)["w"]
    torch.testing.assert_close(merge(previous, factor * previous, stage=3), expected)


def test_small_angles_are_measured_precisely() -> None:
    """The cosine of 1e-3 differs from 1 by 5e-7, of which float32 keeps a digit."""
    first, second = torch.tensor([1.0, 0.0]), torch.tensor([math.cos(1e-3), math.sin(1e-3)])
    assert angle_between(first, second).item() == pytest.approx(1e-3, rel=1e-5)


def test_the_fallback_joins_smoothly() -> None:
    previous, side = torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0])
    for angle in (0.9e-4, 1.1e-4):
        current = previous + angle * side
        torch.testing.assert_close(merge(previous, current), previous + angle / 2 * side, atol=1e-7, rtol=0)


def test_the_weight_is_a_share() -> None:
    with pytest.raises(ConfigError, match="weight is"):
        merge(torch.ones(2), torch.ones(2), weight=1.5)
