"""Size and place of a stage's adapter."""

from __future__ import annotations

from typing import Any

import pytest

from polysense.continual.adapter_settings import AdapterSettings
from polysense.errors import ConfigError


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"rank": 0}, "rank is 0"), ({"alpha": 0.0}, "alpha is 0"), ({"alpha": float("nan")}, "alpha is nan"),
        ({"dropout": 1.0}, "dropout is 1"), ({"dropout": -0.1}, "dropout is -0.1"),
        ({"targets": "("}, r"targets: '\(' is no regular expression"),
    ],
)  # fmt: skip
def test_settings_that_no_adapter_can_have_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        AdapterSettings(**settings)
