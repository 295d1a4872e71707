from __future__ import annotations

import math

import torch
from torch import nn

from polysense.trainer.inner_optimizer import InnerAdam


def test_five_steps_are_those_of_torchs_adam() -> None:
    network = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    reference = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    reference.load_state_dict(network.state_dict())
    ours, theirs = InnerAdam(network, 0.01), torch.optim.Adam(reference.parameters(), 0.01)
    for _ in range(5):
        inputs = torch.randn(6, 3)
        assert ours.step(network, network(inputs).square().sum())
        theirs.zero_grad()
        reference(inputs).square().sum().backward()
        theirs.step()
    for mine, other in zip(network.parameters(), reference.parameters(), strict=True):
        torch.testing.assert_close(mine, other, atol=1e-6, rtol=1e-5)
        assert mine.grad is None
    assert ours.steps.item() == 5


def test_what_is_not_finite_changes_nothing() -> None:
    network = nn.Linear(2, 1)
    inner = InnerAdam(network)
    before = [*(each.clone() for each in network.parameters()), *(each.clone() for each in inner.buffers())]
    assert not inner.step(network, network(torch.full((1, 2), math.nan)).sum())
    after = [*network.parameters(), *inner.buffers()]
    assert all(torch.equal(one, other) for one, other in zip(before, after, strict=True))


def test_all_state_is_in_buffers() -> None:
    assert set(InnerAdam(nn.Linear(2, 1)).state_dict()) == {"mean", "square", "steps"}
