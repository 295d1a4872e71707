"""Grow a multimodal model one sense at a time.

Importing the package registers its models with the Auto classes of transformers, and the built-in senses.
"""

from polysense.modality import Modality, register_modality
from polysense.models.auto import register_auto_classes
from polysense.models.comet import CometConfig, CometModel
from polysense.models.mera import MeraConfig, MeraForConditionalGeneration, MeraProcessor
from polysense.models.unialign import UniAlignConfig, UniAlignModel, UniAlignProcessor
from polysense.version import __version__

register_auto_classes()

__all__ = [
    "CometConfig",
    "CometModel",
    "MeraConfig",
    "MeraForConditionalGeneration",
    "MeraProcessor",
    "Modality",
    "UniAlignConfig",
    "UniAlignModel",
    "UniAlignProcessor",
    "__version__",
    "register_modality",
]
