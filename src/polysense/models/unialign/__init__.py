"""UniAlign: configuration, model and processor."""

from polysense.models.unialign.configuration_unialign import UniAlignConfig
from polysense.models.unialign.modeling_unialign import UniAlignModel

__all__ = ["UniAlignConfig", "UniAlignModel"]
