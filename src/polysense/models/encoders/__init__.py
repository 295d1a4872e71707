"""Encoders of single senses, each usable wherever a `ModalityEncoder` is asked for."""

from polysense.models.encoders.beats import BeatsEncoder, convert_beats
from polysense.models.encoders.configuration_beats import BEATS_PROCESSOR, BeatsConfig
from polysense.models.encoders.configuration_hf_encoder import HFEncoderConfig
from polysense.models.encoders.configuration_point_bert import PointBertConfig
from polysense.models.encoders.configuration_step_net import StepNetConfig
from polysense.models.encoders.hf_encoder import HFEncoder
from polysense.models.encoders.point_bert import PointBertEncoder, convert_point_bert
from polysense.models.encoders.step_net import StepNet

__all__ = [
    "BEATS_PROCESSOR",
    "BeatsConfig",
    "BeatsEncoder",
    "HFEncoder",
    "HFEncoderConfig",
    "PointBertConfig",
    "PointBertEncoder",
    "StepNet",
    "StepNetConfig",
    "convert_beats",
    "convert_point_bert",
]
