from __future__ import annotations

from transformers import AutoConfig, AutoModel
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from polysense import UniAlignConfig, UniAlignModel
from polysense.models.auto import register_auto_classes
from polysense.testing import tiny_clip


def test_importing_the_package_registers_its_models() -> None:
    assert CONFIG_MAPPING["unialign"] is UniAlignConfig
    config = AutoConfig.for_model("unialign", clip_config=tiny_clip().config)
    assert type(AutoModel.from_config(config)) is UniAlignModel


def test_registering_again_changes_nothing() -> None:
    register_auto_classes()
    assert CONFIG_MAPPING["unialign"] is UniAlignConfig
