"""What a learning method has to say, and the registry."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from polysense.continual.methods import (
    Ewc,
    FreshLora,
    Learning,
    LearningMethod,
    PathWeave,
    StageContext,
    get_method,
    learning_methods,
    register_method,
)
from polysense.errors import ConfigError
from tests.continual.methods.chain import Chain, logits


@register_method("frozen")
@dataclass(frozen=True, kw_only=True)
class Frozen(LearningMethod):
    """A method in a file of its own: the language model never learns after its first sense."""

    patience: int = 0

    def trains(self, sense: str) -> str:
        return r"lm_head\..*"

    def learning(self, model: Any, context: StageContext) -> Learning:
        return Learning(model, context)


def test_methods_are_known_by_name() -> None:
    assert learning_methods()[:3] == ("fresh_lora", "ewc", "pathweave")
    assert [get_method(name) for name in ("fresh_lora", "ewc", "pathweave", "frozen")] == [
        FreshLora, Ewc, PathWeave, Frozen,
    ]  # fmt: skip
    with pytest.raises(ConfigError, match=r"no learning method 'ewk'.*fresh_lora, ewc, pathweave"):
        get_method("ewk")
    assert register_method("frozen")(Frozen) is Frozen
    with pytest.raises(ConfigError, match="'ewc' is registered already"):
        register_method("ewc")(Frozen)
    assert Ewc.name == "ewc"


def test_settings_tell_the_method_and_its_options() -> None:
    assert Frozen(patience=2).settings() == {"method": {"name": "frozen", "patience": 2}}
    assert Ewc().settings() == {"method": {"name": "ewc", "strength": 1.0, "share": 0.01}}


def test_what_a_learning_does_not_define_does_nothing(tmp_path: Path) -> None:
    chain = Chain(tmp_path)
    before = logits(chain.start(1))
    model, learning = chain.begun(Frozen(), 1)
    assert learning.penalties() == {}
    learning.finish()
    learning.save(tmp_path)
    assert torch.equal(logits(model), before) and [path.name for path in tmp_path.iterdir()] == ["llm"]


def test_a_context_knows_its_place_and_the_weights_before_all_stages(tmp_path: Path) -> None:
    chain = Chain(tmp_path)
    model = chain.start(1)
    first, second = chain.context(1, model), chain.context(2, model)
    assert (first.number, second.number, second.previous) == (1, 2, tmp_path / "stage-1")
    with pytest.raises(ConfigError, match="first stage continues nothing"):
        _ = first.previous
    weights = first.base_weights()
    assert all(torch.equal(weights[name], parameter) for name, parameter in model.state_dict().items())
