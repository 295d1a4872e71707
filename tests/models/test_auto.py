from __future__ import annotations

import torch
from transformers import AutoConfig, AutoModel, AutoModelForImageTextToText, AutoModelForMultimodalLM
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from polysense import UniAlignConfig, UniAlignModel
from polysense.models.auto import register_auto_classes
from polysense.models.comet import CometModel
from polysense.models.encoders import BeatsEncoder, HFEncoder, PointBertEncoder, StepNet
from polysense.models.mera import MeraForConditionalGeneration, MeraModel
from polysense.testing import tiny_clip, tiny_llama


def test_importing_the_package_registers_its_models() -> None:
    assert CONFIG_MAPPING["unialign"] is UniAlignConfig
    config = AutoConfig.for_model("unialign", clip_config=tiny_clip().config)
    assert type(AutoModel.from_config(config)) is UniAlignModel


def test_encoders_are_found_by_their_types() -> None:
    kinds: dict[str, type] = {
        "hf_encoder": HFEncoder,
        "beats": BeatsEncoder,
        "point_bert": PointBertEncoder,
        "step_net": StepNet,
    }
    for kind, encoder in kinds.items():
        with torch.device("meta"):
            assert type(AutoModel.from_config(AutoConfig.for_model(kind))) is encoder


def test_mera_is_found_with_its_head_and_without() -> None:
    config = AutoConfig.for_model("mera", text_config=tiny_llama().config)
    assert type(AutoModelForImageTextToText.from_config(config)) is MeraForConditionalGeneration
    assert type(AutoModelForMultimodalLM.from_config(config)) is MeraForConditionalGeneration
    assert type(AutoModel.from_config(config)) is MeraModel


def test_comet_is_found_by_its_type() -> None:
    assert type(AutoModel.from_config(AutoConfig.for_model("comet"))) is CometModel


def test_registering_again_changes_nothing() -> None:
    register_auto_classes()
    assert CONFIG_MAPPING["unialign"] is UniAlignConfig
