"""Configuration of Point-BERT.

Annotations are evaluated here (no `from __future__ import annotations`): strict dataclasses check no field whose type
is a string.
"""

from typing import Any

from huggingface_hub.dataclasses import strict

from polysense.errors import ConfigError
from polysense.modality import Modality
from polysense.models.config import PolysenseConfig
from polysense.models.nested import check_limits

_LIMITS = {
    "channels": 64, "num_groups": 65_536, "point_width": 4_096, "hidden_size": 65_536, "intermediate_size": 262_144,
    "num_hidden_layers": 256, "num_attention_heads": 1_024,
}  # fmt: skip


@strict
class PointBertConfig(PolysenseConfig):
    """What a `PointBertEncoder` is made of; the defaults are those of PointLLM's v1.2 (method-facts 4.1).

    Attributes:
        channels: values per point: coordinates and colours.
        num_groups: groups per cloud. The processor makes them: 8192 points, 512 groups of 32.
        point_width: width of the mini-PointNet's first layer; the others are 2, 4 and 2 times as wide.
        keep_class: count the class token among the tokens, as PointLLM and MERA do (513 of them).

    Raises:
        ConfigError: sizes out of range or that do not go together.
    """

    model_type = "point_bert"

    channels: int = 6
    num_groups: int = 512
    point_width: int = 128
    hidden_size: int = 384
    intermediate_size: int = 1536
    num_hidden_layers: int = 12
    num_attention_heads: int = 6
    keep_class: bool = True
    layer_norm_eps: float = 1e-5
    initializer_range: float = 0.02

    def __post_init__(self, **kwargs: Any) -> None:
        super().__post_init__(**kwargs)
        check_limits({name: getattr(self, name) for name in _LIMITS}, _LIMITS, where="PointBertConfig")
        if self.channels < 3 or self.hidden_size % self.num_attention_heads:
            raise ConfigError(
                f"{self.channels} channels and {self.num_attention_heads} heads of {self.hidden_size} values fit no "
                "point encoder", where="PointBertConfig", fix="Give three coordinates at least, and a multiple.",
            )  # fmt: skip

    @property
    def senses(self) -> dict[str, Modality]:
        """The sense that it was made for: clouds with colours where it takes them, in as many groups."""
        options = {"num_groups": self.num_groups}
        return {"point_cloud": Modality(name="point_cloud", kind="points", channels=self.channels, processor=options)}


__all__ = ["PointBertConfig"]
