"""Size and place of what a stage adds to the language model."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from torch import nn

from polysense.errors import ConfigError

BODY = "model.language_model."
"""What the names of the language model's parts, without its head, begin with in a MERA model."""

LANGUAGE_MODEL_LINEARS = r"(.*\.)?language_model\.layers\.\d+\.(self_attn|mlp)\.\w+_proj"
"""Every linear of the language model's blocks, nothing of encoders, connectors or the head."""


@dataclass(frozen=True, kw_only=True)
class AdapterSettings:
    """A stage's LoRA; the paper has rank and alpha 128 (section 5.1).

    Attributes:
        rank, alpha, dropout: of the LoRA; its scaling is alpha / rank.
        targets: pattern of the whole names of the linears that get one, all within the language model's body.

    Raises:
        ConfigError: no rank or scaling, a dropout that keeps nothing, or no regular expression.
    """

    rank: int = 128
    alpha: float = 128.0
    dropout: float = 0.05
    targets: str = LANGUAGE_MODEL_LINEARS

    def __post_init__(self) -> None:
        if self.rank < 1 or not 0 < self.alpha < math.inf:
            raise ConfigError(f"rank is {self.rank} and alpha is {self.alpha}", fix="Give positive numbers.")
        if not 0 <= self.dropout < 1:
            raise ConfigError(f"dropout is {self.dropout}", fix="Give a share below 1.")
        try:
            re.compile(self.targets)
        except re.error as error:
            raise ConfigError(f"{self.targets!r} is no regular expression ({error})", where="targets",
                              fix="Correct it.") from error  # fmt: skip


def check_targets(model: nn.Module, pattern: str) -> None:
    """Refuse what no merge could take in: encoders are frozen and shared, and peft turns or keeps whole other layers.

    The head is no layer of the body, and may be the embedding matrix.

    Raises:
        ConfigError: naming the first such module.
    """
    for name, module in model.named_modules():
        if re.fullmatch(pattern, name) and not (name.startswith(BODY) and isinstance(module, nn.Linear)):
            raise ConfigError(f"{name} ({type(module).__name__}) is no linear of the language model's body",
                              where="adapter: targets", fix="Give a pattern of its linears alone.")  # fmt: skip


__all__ = ["BODY", "LANGUAGE_MODEL_LINEARS", "AdapterSettings", "check_targets"]
