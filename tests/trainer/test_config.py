from __future__ import annotations

from typing import Any

import pytest

from polysense.errors import ConfigError
from polysense.trainer import LoopConfig


def test_warm_up_is_linear_and_a_cosine_follows() -> None:
    config = LoopConfig(steps=12, learning_rate=1.0, warmup_steps=4, final_lr_ratio=0.1)
    assert [config.learning_rate_at(step) for step in range(4)] == [0.25, 0.5, 0.75, 1.0]
    assert config.learning_rate_at(4) == 1.0
    assert config.learning_rate_at(8) == pytest.approx(0.1 + 0.9 * 0.5)
    assert config.learning_rate_at(12) == pytest.approx(0.1)


def test_a_training_may_have_a_length_of_its_own() -> None:
    config = LoopConfig(steps=3)
    assert config.lasting() == config and config.lasting(4) == LoopConfig(steps=4)
    assert config.lasting(epochs=2) == LoopConfig(epochs=2)


def test_a_config_survives_the_trip_through_a_dictionary() -> None:
    config = LoopConfig(steps=3, lr_multipliers={"encoders.*": 0.1})
    assert LoopConfig.from_dict(config.to_dict()) == config


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"steps": 3, "learning_rat": 1.0}, "unknown key 'learning_rat'. Did you mean 'learning_rate'"),
        ({}, "number of steps is missing"),
        ({"steps": 3, "learning_rate": -1e-3}, r"learning_rate is -0\.001\. Give at least 0"),
        ({"steps": 3, "learning_rate": float("nan")}, "learning_rate is nan"),
        ({"steps": 3, "final_lr_ratio": float("inf")}, "final_lr_ratio is inf"),
        ({"steps": 3, "epsilon": -1.0}, "epsilon is -1"),
        ({"steps": 3, "beta2": 1.0}, r"beta2 is 1\.0\. Give 0 or more, below 1"),
        ({"steps": 3, "learning_rate": "2e-4"}, r"not of type float.*write 2\.0e-4"),
        ({"steps": 3.5}, "steps is 3.5, not of type int"),
        ({"steps": True}, "steps is True"),
        ({"steps": 0}, "steps is 0"),
        ({"steps": 3, "keep_checkpoints": 1}, r"keep_checkpoints is 1.*at least 2"),
        ({"steps": 3, "optimizer": "lion"}, r"optimizer is 'lion'.*adamw, sgd"),
        ({"steps": 3, "mixed_precision": "fp16"}, "mixed_precision is 'fp16'"),
        ({"steps": 3, "max_grad_norm": -1.0}, "max_grad_norm is -1.0"),
    ],
)
def test_wrong_settings_are_refused_by_name(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        LoopConfig.from_dict(settings)


def test_every_setting_is_documented() -> None:
    documentation = LoopConfig.__doc__ or ""
    assert all(f"        {name}: " in documentation for name in LoopConfig(steps=1).to_dict())
