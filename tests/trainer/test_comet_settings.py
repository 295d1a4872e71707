"""Weights of COMET's objective."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest

from polysense.errors import ConfigError
from polysense.trainer.comet_settings import CometSettings


@pytest.mark.parametrize("change", [{"code": -1.0}, {"axis": "sideways"}, {"inner_steps": -1}, {"scale": math.inf}])
def test_settings_that_cannot_be_used_are_named(change: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=f"{next(iter(change))} is"):
        replace(CometSettings(), **change)
