from __future__ import annotations

import pytest
import torch
from torch import nn

from polysense.errors import ConfigError, QuotaExceededError
from polysense.recipes.head_training import HeadSettings, train_head


def test_every_epoch_sees_every_sample_once_in_an_order_of_its_own() -> None:
    part, seen = nn.Linear(1, 1), list[list[int]]()

    def loss(rows: torch.Tensor) -> torch.Tensor:
        seen[-1].extend(rows.tolist())
        return part.weight.sum()

    seen.append([])
    train_head(part, loss, 7, HeadSettings(epochs=2, batch_size=3), key="a", after_epoch=lambda: seen.append([]))
    assert [sorted(each) for each in seen] == [[*range(7)], [*range(7)], []]
    assert seen[0] != seen[1]


def test_equal_keys_train_alike_whatever_else_drew_numbers() -> None:
    data, settings = torch.arange(20.0).view(10, 2), HeadSettings(epochs=3, batch_size=4)

    def trained() -> torch.Tensor:
        part = nn.Linear(2, 1, bias=False)
        nn.init.ones_(part.weight)
        train_head(part, lambda rows: part(data[rows]).square().mean(), 10, settings, key="b",
                   after_epoch=lambda: None)  # fmt: skip
        return part.weight.detach()

    first = trained()
    torch.rand(3)
    assert torch.equal(first, trained()) and not torch.equal(first, torch.ones(1, 2))


def test_milestones_halve_the_rate_and_gradients_are_clipped() -> None:
    """Adam's first steps are as long as its rate, whatever the gradient: 0.1, then 0.05 after the first epoch."""
    part, values = nn.Linear(1, 1, bias=False), []
    nn.init.zeros_(part.weight)
    settings = HeadSettings(epochs=2, batch_size=5, learning_rate=0.1, milestones=(1,))
    train_head(part, lambda rows: 1e6 * part.weight.sum(), 5, settings, key="c",
               after_epoch=lambda: values.append(part.weight.item()))  # fmt: skip
    assert values == pytest.approx([-0.1, -0.15], abs=1e-4)


def test_a_loss_that_is_not_finite_ends_the_training_before_a_step() -> None:
    part = nn.Linear(1, 1)
    before = part.weight.detach().clone()
    with pytest.raises(QuotaExceededError, match="epoch 1"):
        train_head(part, lambda rows: part.weight.sum() * torch.nan, 4, HeadSettings(), key="d",
                   after_epoch=lambda: None)  # fmt: skip
    assert torch.equal(part.weight, before)


def test_settings_that_train_nothing_are_refused() -> None:
    with pytest.raises(ConfigError, match="0 epochs"):
        HeadSettings(epochs=0)
