"""What goes on over a stretch of time as one vector."""

from __future__ import annotations

import math

import pytest
import torch

from polysense.errors import ConfigError
from polysense.nn.time_pooling import TimePooling


def test_mean_and_maximum_of_every_part_by_hand() -> None:
    maps = torch.tensor([[[[1.0, 3.0, 0.0, 8.0], [0.0, 0.0, -2.0, 2.0]]]])
    assert TimePooling(1)(maps).tolist() == [[3.0, 0.0, 8.0, 2.0]]
    # means of both rows in the first half, then maxima, then the second half's
    assert TimePooling(2)(maps).tolist() == [[2.0, 0.0, 3.0, 0.0, 4.0, 0.0, 8.0, 2.0]]


def test_a_wave_is_found_at_its_frequency_whatever_its_phase() -> None:
    time = torch.arange(8) * 2 * math.pi / 8
    pooling = TimePooling(1, 3)
    for phase in (0.0, 0.3, 2.0):
        wave = (5 + 2 * torch.cos(2 * time + phase)).reshape(1, 1, 1, 8)
        amplitudes = pooling(wave)[0, 2:]
        # 2 * (8 / 2) / sqrt(8) for two periods, and nothing for one and three
        torch.testing.assert_close(amplitudes, torch.tensor([0.0, 8 / math.sqrt(8), 0.0]), atol=1e-5, rtol=0)


def test_amplitudes_are_averaged_over_the_height() -> None:
    maps = torch.zeros(1, 1, 2, 4)
    maps[0, 0, 1] = torch.tensor([1.0, -1.0, 1.0, -1.0])  # two periods: 4 / sqrt(4)
    assert TimePooling(1, 2)(maps)[0, 4:].tolist() == pytest.approx([0.0, 1.0])


def test_its_size_is_told_before_and_gradients_reach_every_column() -> None:
    maps = torch.randn(2, 3, 4, 12, requires_grad=True)
    pooled = TimePooling(3, 5)(maps)
    assert pooled.shape == (2, TimePooling(3, 5).size(3, 4)) == (2, 3 * (2 * 4 * 3 + 5))
    pooled.square().sum().backward()
    assert maps.grad is not None and (maps.grad != 0).all()


@pytest.mark.parametrize(("parts", "frequencies"), [(0, 0), (1, -1)])
def test_numbers_that_cannot_be_used_are_refused(parts: int, frequencies: int) -> None:
    with pytest.raises(ConfigError, match="cannot be pooled"):
        TimePooling(parts, frequencies)
