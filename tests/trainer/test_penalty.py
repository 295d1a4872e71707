"""Penalties beside an objective's own terms."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from accelerate import Accelerator
from torch import Tensor, nn

from polysense.trainer import LoopConfig, Objective
from polysense.trainer.optimizer import build_optimizer, trainable_parameters
from polysense.trainer.penalty import PenalisedObjective
from polysense.trainer.step import StepRunner


class Rows:
    """Three samples of nothing in particular."""

    ids, weight = ("a", "b", "c"), 1.0

    def __len__(self) -> int:
        return 3

    def to(self, target: torch.device) -> Rows:
        return self


class Line:
    """The loss is the one weight."""

    modalities = ("audio", "depth")

    def __init__(self) -> None:
        self.weights = {"own": 2.0}
        self.module = nn.Linear(1, 1, bias=False)
        nn.init.constant_(self.module.weight, 3.0)

    def losses(self, modality: str, batch: Any) -> dict[str, Tensor]:
        return {"own": self.module.weight.sum()}

    def dummy(self, modality: str) -> Tensor:
        return self.module.weight.sum() * 0


@pytest.mark.parametrize("slots", [("audio",), ("audio", "depth"), ("audio", "audio", "depth")])
def test_a_penalty_counts_once_however_many_batches_a_step_has(slots: tuple[str, ...]) -> None:
    line = Line()
    objective = PenalisedObjective(line, {"held": lambda: line.module.weight.square().sum()}, slots=len(slots))
    assert isinstance(objective, Objective) and objective.modalities == line.modalities
    config = LoopConfig(steps=1, optimizer="sgd", learning_rate=0.1, max_grad_norm=0.0, weight_decay=0.0)
    parameters = trainable_parameters(line.module)
    runner = StepRunner(objective, slots, parameters, build_optimizer(parameters, config), Accelerator(), config)
    runner.accumulate([Rows() for _ in slots], [[3] * len(slots)])
    # 2 w per batch with gradient 2, and w^2 = 9 once with gradient 6
    assert runner.finish(0).loss == pytest.approx(6.0 * len(slots) + 9.0)
    assert line.module.weight.item() == pytest.approx(3.0 - 0.1 * (2.0 * len(slots) + 6.0))
    terms = runner.take_terms()
    assert all(terms[f"{name}/held"][0] / terms[f"{name}/held"][1] == 9.0 for name in set(slots))


def test_without_penalties_it_is_the_objective() -> None:
    line = Line()
    objective = PenalisedObjective(line, {}, slots=2)
    assert objective.losses("audio", Rows()).keys() == {"own"} and objective.weights == line.weights
    assert objective.module is line.module and float(objective.dummy("audio").detach()) == 0
