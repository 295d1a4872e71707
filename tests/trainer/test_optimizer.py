from __future__ import annotations

import pytest
import torch

from polysense.errors import CheckpointError, ConfigError
from polysense.testing.toy import ToyModel
from polysense.trainer import LoopConfig
from polysense.trainer.optimizer import (
    build_optimizer,
    load_optimizer_tensors,
    optimizer_tensors,
    set_learning_rate,
    trainable_parameters,
)


def test_vectors_are_not_decayed_and_patterns_scale_the_rate() -> None:
    parameters = trainable_parameters(ToyModel())
    assert set(parameters) == {
        f"encoders.{sense}.{kind}" for sense in ("audio", "depth") for kind in ("weight", "bias")
    }
    optimizer = build_optimizer(parameters, LoopConfig(steps=1, lr_multipliers={"*depth*": 0.1, "*": 2.0}))
    set_learning_rate(optimizer, 0.5)
    found = {id(p): (g["lr"], g["weight_decay"]) for g in optimizer.param_groups for p in g["params"]}
    assert {name: found[id(parameter)] for name, parameter in parameters.items()} == {
        "encoders.audio.weight": (1.0, 0.05),
        "encoders.audio.bias": (1.0, 0.0),
        "encoders.depth.weight": (0.05, 0.05),
        "encoders.depth.bias": (0.05, 0.0),
    }


def test_the_state_goes_by_name_whatever_the_order_of_groups() -> None:
    model, other = ToyModel(), ToyModel()
    parameters = trainable_parameters(model)
    optimizer = build_optimizer(parameters, LoopConfig(steps=1))
    model.encoders["audio"](torch.ones(1, 6)).sum().backward()
    optimizer.step()
    tensors = optimizer_tensors(optimizer, parameters)
    assert set(tensors) == {
        f"{state}/encoders.audio.{kind}" for state in ("step", "exp_avg", "exp_avg_sq") for kind in ("weight", "bias")
    }
    again = trainable_parameters(other)
    restored = build_optimizer(again, LoopConfig(steps=1, lr_multipliers={"*bias": 0.5}))
    load_optimizer_tensors(restored, again, tensors)
    reread = optimizer_tensors(restored, again)
    assert all(torch.equal(reread[name], tensor) for name, tensor in tensors.items()) and len(reread) == len(tensors)


def test_a_state_of_another_model_is_refused() -> None:
    parameters = trainable_parameters(ToyModel())
    optimizer = build_optimizer(parameters, LoopConfig(steps=1))
    for name, shape in (("exp_avg/encoders.video.weight", (8, 6)), ("exp_avg/encoders.audio.weight", (8, 7))):
        with pytest.raises(CheckpointError, match="fits no trainable parameter"):
            load_optimizer_tensors(optimizer, parameters, {name: torch.zeros(shape)})
    assert not optimizer.state


@pytest.mark.parametrize("change", ["lost", "no vector", "another type", "another kind"])
def test_a_state_that_the_optimiser_cannot_go_on_from_is_refused(change: str) -> None:
    parameters = trainable_parameters(ToyModel())
    optimizer = build_optimizer(parameters, LoopConfig(steps=1))
    key = "exp_avg/encoders.audio.weight"
    whole = {f"{state}/encoders.audio.weight": torch.zeros(8, 6) for state in ("exp_avg", "exp_avg_sq")}
    whole["step/encoders.audio.weight"] = torch.tensor(3.0)
    value = {"no vector": torch.tensor(1.0), "another type": whole[key].bfloat16(), "another kind": whole[key]}
    del whole[key]
    if change != "lost":
        whole[f"momentum/{key.partition('/')[2]}" if change == "another kind" else key] = value[change]
    with pytest.raises(CheckpointError, match=r"is not whole|fits no trainable parameter"):
        load_optimizer_tensors(optimizer, parameters, whole)
    assert not optimizer.state


def test_a_pattern_without_a_parameter_and_a_model_without_one_are_refused() -> None:
    parameters = trainable_parameters(ToyModel())
    with pytest.raises(ConfigError, match=r"'encoder\.video' matches no trainable"):
        build_optimizer(parameters, LoopConfig(steps=1, lr_multipliers={"encoder.video": 0.1}))
    with pytest.raises(ConfigError, match="nothing of the model is trainable"):
        trainable_parameters(ToyModel().requires_grad_(False))
