"""The one place where our models join the Auto classes of transformers."""

from __future__ import annotations

from transformers import AutoConfig, AutoModel, AutoProcessor

from polysense.models.unialign import UniAlignConfig, UniAlignModel, UniAlignProcessor


def register_auto_classes() -> None:
    """Let `AutoConfig`, `AutoModel` and `AutoProcessor` find our classes; repeating it changes nothing."""
    AutoConfig.register(UniAlignConfig.model_type, UniAlignConfig, exist_ok=True)
    AutoModel.register(UniAlignConfig, UniAlignModel, exist_ok=True)
    AutoProcessor.register(UniAlignConfig, UniAlignProcessor, exist_ok=True)
