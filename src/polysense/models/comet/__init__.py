"""COMET: configuration and model."""

from polysense.models.comet.configuration_comet import CometConfig, CometSense
from polysense.models.comet.modeling_comet import CometModel

__all__ = ["CometConfig", "CometModel", "CometSense"]
