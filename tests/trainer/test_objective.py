from __future__ import annotations

import torch
from torch import nn

from polysense.testing.toy import ToyObjective, toy_mixture
from polysense.trainer import Feed, Objective, zero_touch


def test_the_toy_and_the_mixture_keep_the_protocols() -> None:
    assert isinstance(ToyObjective(), Objective)
    assert isinstance(toy_mixture(), Feed)


def test_a_zero_touch_gives_every_trainable_parameter_a_gradient_of_zero() -> None:
    layer = nn.Linear(2, 3)
    layer.bias.requires_grad_(False)
    zero_touch(layer).backward()
    assert layer.weight.grad is not None and torch.equal(layer.weight.grad, torch.zeros(3, 2))
    assert layer.bias.grad is None
