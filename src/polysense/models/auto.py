"""The one place where our models join the Auto classes of transformers."""

from __future__ import annotations

from transformers import AutoConfig, AutoModel, AutoProcessor

from polysense.models.encoders import HFEncoder, HFEncoderConfig
from polysense.models.unialign import UniAlignConfig, UniAlignModel, UniAlignProcessor


def register_auto_classes() -> None:
    """Let `AutoConfig`, `AutoModel` and `AutoProcessor` find our classes; repeating it changes nothing."""
    for config, model in ((UniAlignConfig, UniAlignModel), (HFEncoderConfig, HFEncoder)):
        AutoConfig.register(config.model_type, config, exist_ok=True)
        AutoModel.register(config, model, exist_ok=True)
    AutoProcessor.register(UniAlignConfig, UniAlignProcessor, exist_ok=True)
