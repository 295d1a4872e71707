from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from huggingface_hub.errors import StrictDataclassFieldValidationError
from transformers import AutoConfig

from polysense.errors import ConfigError
from polysense.models.encoders import PointBertConfig
from polysense.processing import PointCloudProcessor, processor_for


def test_defaults_are_pointllms(tmp_path: Path) -> None:
    config = PointBertConfig()
    assert (config.num_groups, config.hidden_size, config.num_hidden_layers, config.channels) == (512, 384, 12, 6)
    config.save_pretrained(tmp_path)
    assert isinstance(AutoConfig.from_pretrained(tmp_path), PointBertConfig)


def test_its_sense_is_coloured_clouds_in_as_many_groups() -> None:
    spec = PointBertConfig(num_groups=64).senses["point_cloud"]
    processor = processor_for(spec, 224)
    assert isinstance(processor, PointCloudProcessor)
    assert (processor.channels, processor.num_groups, processor.num_points) == (6, 64, 8192)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_groups": 0}, "num_groups is 0"),
        ({"hidden_size": 10**9}, "hidden_size is 1000000000"),
        ({"channels": 2}, "2 channels and 6 heads of 384 values fit no"),
        ({"num_attention_heads": 5}, "6 channels and 5 heads of 384 values fit no"),
    ],
)
def test_values_that_no_encoder_can_have_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        PointBertConfig(**changes)


def test_mistyped_fields_are_refused() -> None:
    with pytest.raises(StrictDataclassFieldValidationError):
        PointBertConfig(keep_class="yes")
