"""Encoders of single senses, each usable wherever a `ModalityEncoder` is asked for."""

from polysense.models.encoders.configuration_hf_encoder import HFEncoderConfig
from polysense.models.encoders.hf_encoder import HFEncoder

__all__ = ["HFEncoder", "HFEncoderConfig"]
