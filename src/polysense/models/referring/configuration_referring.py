"""Configuration of the segmentation head.

Annotations are evaluated here (no `from __future__ import annotations`): strict dataclasses check no field whose type
is a string.
"""

from typing import Any, ClassVar, cast

from huggingface_hub.dataclasses import strict
from transformers import AutoConfig, PreTrainedConfig
from transformers.configuration_utils import SubConfigSpec

from polysense.errors import ConfigError
from polysense.models.config import PolysenseConfig
from polysense.models.nested import check_limits, nested_config

_LIMITS = {"code_dim": 65_536}


@strict
class ReferringSegmenterConfig(PolysenseConfig):
    """What a `ReferringSegmenter` is made of.

    Attributes:
        clipseg_config: a CLIPSeg's; its vision tower and its decoder are used, its text tower is not.
        code_dim: width of the code sequences.
        train_vision: whether the vision tower learns, as it must where it was not pre-trained.

    Raises:
        ConfigError: no CLIPSeg, or layers that its vision tower lacks.
    """

    model_type = "referring_segmenter"
    sub_configs_defaults: ClassVar[dict[str, Any]] = {
        "clipseg_config": SubConfigSpec(config_class=AutoConfig, model_type="clipseg")
    }

    clipseg_config: dict[str, Any] | PreTrainedConfig | None = None
    code_dim: int = 256
    train_vision: bool = True

    def __post_init__(self, **kwargs: Any) -> None:
        given = self.clipseg_config or {}
        if not isinstance(given, PreTrainedConfig):
            given = {"model_type": "clipseg", **given}
        self.clipseg_config = nested_config(given, where="clipseg_config")
        super().__post_init__(**kwargs)
        check_limits({"code_dim": self.code_dim}, _LIMITS, where="ReferringSegmenterConfig")
        if self.clipseg.model_type != "clipseg":
            raise ConfigError(f"a {self.clipseg.model_type!r} is no CLIPSeg", where="clipseg_config",
                              fix="Give the config of a CLIPSeg.")  # fmt: skip
        layers, vision = self.clipseg.extract_layers, self.clipseg.vision_config
        if not layers or not all(0 <= layer < vision.num_hidden_layers for layer in layers):
            raise ConfigError(f"extract_layers {list(layers)} of a tower of {vision.num_hidden_layers} layers",
                              where="clipseg_config", fix="Name layers that the vision tower has.")  # fmt: skip

    @property
    def clipseg(self) -> Any:
        """The nested config, typed loosely as transformers' are."""
        return cast(Any, self.clipseg_config)


__all__ = ["ReferringSegmenterConfig"]
