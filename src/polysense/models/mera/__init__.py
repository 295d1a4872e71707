"""MERA: configuration, model and processor."""

from polysense.models.mera.configuration_mera import MeraConfig
from polysense.models.mera.modeling_mera import MeraForConditionalGeneration, MeraModel

__all__ = ["MeraConfig", "MeraForConditionalGeneration", "MeraModel"]
