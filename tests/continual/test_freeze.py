from __future__ import annotations

import logging

import pytest
from torch import nn

from polysense.continual import apply_freezing
from polysense.errors import ConfigError


@pytest.fixture
def model() -> nn.Module:
    return nn.ModuleDict({"base": nn.Linear(2, 3), "head": nn.Linear(3, 1)})


def trainable(model: nn.Module) -> set[str]:
    return {name for name, parameter in model.named_parameters() if parameter.requires_grad}


def test_the_last_matching_pattern_decides(model: nn.Module) -> None:
    counts = apply_freezing(model, {r".*": False, r"head\..*": True, r"head\.bias": False})
    assert trainable(model) == {"head.weight"}
    assert counts == {r".*": 9, r"head\..*": 3, r"head\.bias": 1}


def test_patterns_match_whole_names(model: nn.Module) -> None:
    with pytest.raises(ConfigError, match=r"patterns \['head'\] match no parameter"):
        apply_freezing(model, {r".*": False, "head": True})


def test_a_parameter_that_no_pattern_matches_is_named_and_nothing_changes(model: nn.Module) -> None:
    before = trainable(model)
    with pytest.raises(ConfigError, match=r"base\.weight: no pattern of the freezing table"):
        apply_freezing(model, {r"head\..*": False})
    with pytest.raises(ConfigError, match="Mend or remove them"):
        apply_freezing(model, {r".*": False, "tail": True})
    assert trainable(model) == before


def test_what_is_frozen_is_logged(model: nn.Module, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="polysense"):
        apply_freezing(model, {r".*": False, r"head\..*": True})
    assert [record.getMessage() for record in caplog.records] == [
        r"frozen .*: 9 parameters",
        r"trains head\..*: 4 parameters",
    ]
