"""MERA: configuration, model and processor."""

from polysense.models.mera.configuration_mera import MeraConfig
from polysense.models.mera.modeling_mera import MeraForConditionalGeneration, MeraModel
from polysense.models.mera.processing_mera import MeraProcessor

__all__ = ["MeraConfig", "MeraForConditionalGeneration", "MeraModel", "MeraProcessor"]
