"""UniAlign: configuration, model and processor."""

from polysense.models.unialign.configuration_unialign import UniAlignConfig
from polysense.models.unialign.modeling_unialign import UniAlignModel
from polysense.models.unialign.processing_unialign import UniAlignProcessor

__all__ = ["UniAlignConfig", "UniAlignModel", "UniAlignProcessor"]
