from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from torch import Tensor, nn

from polysense.trainer import LoopConfig, zero_touch
from polysense.trainer.optimizer import build_optimizer, trainable_parameters
from polysense.trainer.step import StepRunner


class Rows(list[Tensor]):
    weight = 1.0

    def to(self, target: torch.device) -> Rows:
        return self


class Linear:
    """Loss w * mean(rows) for modality "a", and v * mean(rows) for "b": gradients can be read off."""

    modalities = ("b", "a")

    def __init__(self, **weights: float) -> None:
        self.module = nn.ParameterDict({"a": nn.Parameter(torch.tensor(2.0)), "b": nn.Parameter(torch.tensor(3.0))})
        self.weights, self.order = weights, list[str]()

    def losses(self, modality: str, batch: Rows) -> dict[str, Tensor]:
        self.order.append(modality)
        if not batch[0].isfinite() and batch[0] > 0:
            return {}
        return {"line": self.module[modality] * torch.stack(list(batch)).mean()}

    def dummy(self, modality: str) -> Tensor:
        return zero_touch(self.module)


def rows(*values: float) -> Rows:
    return Rows(torch.tensor(float(value)) for value in values)


def runner(objective: Linear, **settings: Any) -> StepRunner:
    plain: dict[str, Any] = {"steps": 10, "optimizer": "sgd", "learning_rate": 1.0, "max_grad_norm": 0.0}
    config = LoopConfig(**(plain | settings))
    parameters = trainable_parameters(objective.module)
    return StepRunner(objective, ("a", "b"), parameters, build_optimizer(parameters, config), Accelerator(), config)


def test_one_update_after_all_modalities_in_the_objectives_order() -> None:
    objective = Linear(line=0.5)
    steps = runner(objective)
    steps.accumulate([rows(1, 3), rows(4)], [[2, 1]])
    report = steps.finish(0)
    assert objective.order == ["b", "a"]
    assert report.applied and report.samples == 3
    assert report.loss == pytest.approx(0.5 * (2 * 2 + 3 * 4))
    assert report.grad_norm == pytest.approx(math.hypot(1, 2))
    assert objective.module["a"].item() == pytest.approx(2 - 1) and objective.module["b"].item() == pytest.approx(
        3 - 2
    )


def test_micro_batches_are_averaged() -> None:
    objective = Linear()
    steps = runner(objective, accumulation=2)
    steps.accumulate([rows(1), rows(1)], [[1, 1]])
    steps.accumulate([rows(3), rows(1)], [[1, 1]])
    steps.finish(0)
    assert objective.module["a"].item() == pytest.approx(2 - 2)


def test_an_absent_modality_is_not_touched() -> None:
    objective = Linear()
    steps = runner(objective, optimizer="adamw", weight_decay=0.0)
    steps.accumulate([rows(1), None], [[1, 0]])
    steps.finish(0)
    assert objective.order == ["a"] and objective.module["b"].item() == 3.0


def test_gradients_are_clipped_to_the_norm() -> None:
    objective = Linear()
    steps = runner(objective, max_grad_norm=0.5)
    steps.accumulate([rows(3), rows(4)], [[1, 1]])
    assert steps.finish(0).grad_norm == pytest.approx(5.0)
    assert objective.module["a"].item() == pytest.approx(2 - 0.3, abs=1e-5)


@pytest.mark.parametrize("value", [float("nan"), float("-inf")])
def test_a_step_that_is_not_finite_changes_nothing(value: float) -> None:
    objective = Linear()
    steps = runner(objective)
    steps.accumulate([rows(value), rows(1)], [[1, 1]])
    assert not steps.finish(0).applied
    assert objective.module["a"].item() == 2.0 and objective.module["b"].item() == 3.0
    steps.accumulate([rows(1), rows(1)], [[1, 1]])
    assert steps.finish(1).applied


def test_a_batch_that_gives_nothing_to_learn_from_is_fine() -> None:
    steps = runner(Linear())
    steps.accumulate([rows(float("inf")), None], [[1, 0]])
    assert steps.finish(0).applied


def test_terms_are_collected_until_they_are_taken() -> None:
    steps = runner(Linear())
    steps.accumulate([rows(1, 3), None], [[2, 0]])
    steps.accumulate([rows(5), None], [[1, 0]])
    assert steps.take_terms() == {"a/line": (2 * 2 * 2 + 2 * 5, 3)}
    assert steps.take_terms() == {}
