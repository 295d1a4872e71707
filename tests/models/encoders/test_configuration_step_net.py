from __future__ import annotations

from typing import Any

import pytest

from polysense.errors import ConfigError
from polysense.modality import get_modality
from polysense.models.encoders import StepNetConfig


def test_every_stage_halves_the_raster() -> None:
    assert StepNetConfig().raster == (4, 4)
    assert StepNetConfig(height=64, width=98).raster == (4, 7)
    assert StepNetConfig(height=5, width=3, widths=[8]).raster == (3, 2)


def test_it_keeps_the_spec_of_its_sense() -> None:
    spec = get_modality("depth")
    config = StepNetConfig(channels=1, sense=spec.to_dict())
    assert config.senses == {"depth": spec} and StepNetConfig().senses == {}
    again = StepNetConfig.from_dict(config.to_dict())
    assert again.senses == config.senses and again.widths == [16, 32, 64, 64]


@pytest.mark.parametrize(
    ("values", "where"),
    [
        ({"channels": 0}, "channels"),
        ({"height": 10**6}, "height"),
        ({"widths": []}, "widths"),
        ({"widths": [6]}, "widths"),
        ({"sense": {"name": "depth"}}, "kind"),
    ],
)
def test_what_no_net_can_have_is_refused(values: dict[str, Any], where: str) -> None:
    with pytest.raises(ConfigError, match=where):
        StepNetConfig(**values)
