"""The one place where our models join the Auto classes of transformers."""

from __future__ import annotations

from transformers import AutoConfig, AutoModel, AutoModelForImageTextToText, AutoModelForMultimodalLM, AutoProcessor

from polysense.models.comet import CometConfig, CometModel
from polysense.models.encoders import (
    BeatsConfig,
    BeatsEncoder,
    HFEncoder,
    HFEncoderConfig,
    PointBertConfig,
    PointBertEncoder,
    StepNet,
    StepNetConfig,
)
from polysense.models.mera import MeraConfig, MeraForConditionalGeneration, MeraModel, MeraProcessor
from polysense.models.referring import ReferringSegmenter, ReferringSegmenterConfig
from polysense.models.unialign import UniAlignConfig, UniAlignModel, UniAlignProcessor


def register_auto_classes() -> None:
    """Let `AutoConfig`, `AutoModel`, `AutoModelForImageTextToText` and `AutoProcessor` find our classes.

    Repeating it changes nothing.
    """
    models = (
        (UniAlignConfig, UniAlignModel),
        (HFEncoderConfig, HFEncoder),
        (BeatsConfig, BeatsEncoder),
        (PointBertConfig, PointBertEncoder),
        (StepNetConfig, StepNet),
        (MeraConfig, MeraModel),
        (CometConfig, CometModel),
        (ReferringSegmenterConfig, ReferringSegmenter),
    )
    for config, model in models:
        AutoConfig.register(config.model_type, config, exist_ok=True)
        AutoModel.register(config, model, exist_ok=True)
    for auto_class in (AutoModelForImageTextToText, AutoModelForMultimodalLM):
        auto_class.register(MeraConfig, MeraForConditionalGeneration, exist_ok=True)
    for config, processor in ((UniAlignConfig, UniAlignProcessor), (MeraConfig, MeraProcessor)):
        AutoProcessor.register(config, processor, exist_ok=True)
