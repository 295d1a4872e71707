"""Ways of learning one sense after another: MERA, fine-tuning and their rivals; importing this registers them."""

from polysense.continual.methods.base import (
    Learning,
    LearningMethod,
    StageContext,
    get_method,
    learning_methods,
    register_method,
)
from polysense.continual.methods.ewc import Ewc
from polysense.continual.methods.fresh_lora import FreshLora
from polysense.continual.methods.pathweave import PathWeave

__all__ = [
    "Ewc",
    "FreshLora",
    "Learning",
    "LearningMethod",
    "PathWeave",
    "StageContext",
    "get_method",
    "learning_methods",
    "register_method",
]
