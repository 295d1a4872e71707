"""Sharding where there is one process; two of them are in `tests/distributed/mera_cases.py`."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from polysense.testing.toy import ToyObjective
from polysense.trainer.penalty import PenalisedObjective
from polysense.trainer.sharding import is_sharded, sharded, shared_like, whole_value


def test_one_process_has_nothing_to_share(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    monkeypatch.setenv("FSDP_VERSION", "2")
    objective = ToyObjective()
    before = dict(objective.module.named_parameters())
    with sharded(objective, torch.device("cpu")):
        assert not any(map(is_sharded, objective.module.parameters()))
    assert all(before[name] is each for name, each in objective.module.named_parameters())


def test_a_plain_tensor_is_whole_and_copied() -> None:
    tensor = nn.Parameter(torch.ones(3))
    assert whole_value(tensor) is tensor
    copied = shared_like(tensor, torch.zeros(3))
    assert torch.equal(copied, tensor) and copied.data_ptr() != tensor.data_ptr()


def test_an_objective_with_penalties_needs_whole_parameters() -> None:
    class Shardable(ToyObjective):
        whole = ("anchor",)

    assert PenalisedObjective(Shardable(), {}, slots=1).whole == ("anchor",)
    assert PenalisedObjective(Shardable(), {"held": lambda: torch.tensor(0.0)}, slots=1).whole is None
    assert PenalisedObjective(ToyObjective(), {}, slots=1).whole is None
