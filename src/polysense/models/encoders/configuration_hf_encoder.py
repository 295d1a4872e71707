"""Configuration of the adapter that makes any Hugging Face encoder one of ours.

Annotations are evaluated here (no `from __future__ import annotations`): strict dataclasses check no field whose type
is a string.
"""

from typing import Any, ClassVar, Literal, cast

from huggingface_hub.dataclasses import strict
from transformers import AutoConfig, PreTrainedConfig
from transformers.configuration_utils import SubConfigSpec

from polysense.errors import ConfigError
from polysense.models.config import PolysenseConfig
from polysense.models.nested import nested_config

_PREFIX_TOKENS = {
    "clip_vision_model": 1, "vit": 1, "dinov2": 1, "deit": 2, "audio-spectrogram-transformer": 2,
    "siglip_vision_model": 0, "siglip2_vision_model": 0, "ijepa": 0, "aimv2_vision_model": 0,
}  # fmt: skip
_MAX_RANK = 4


@strict
class HFEncoderConfig(PolysenseConfig):
    """What an `HFEncoder` is made of.

    Attributes:
        base_config: config of the encoder, any that `AutoModel` knows; CLIP's vision tower by default.
        prefix_tokens: tokens before the raster (class, distillation, register tokens) that are dropped.
        feature_rank: axes of one sample: 3 for a picture. One axis more than that is time.
        layout: "native" features are the base's own; "spectrogram" features are `1 mel frames`, as our processors
            make them, and reach the base as `frames mel` (AST).
        grid: (height, width) of the raster; `None` computes it from the base's picture and patch sizes.

    Raises:
        ConfigError: a nested config that cannot be used, numbers that fit no encoder, or a raster that cannot be told.
    """

    model_type = "hf_encoder"
    sub_configs_defaults: ClassVar[dict[str, Any]] = {
        "base_config": SubConfigSpec(config_class=AutoConfig, model_type="clip_vision_model")
    }

    base_config: dict[str, Any] | PreTrainedConfig | None = None
    prefix_tokens: int = 1
    feature_rank: int = 3
    layout: Literal["native", "spectrogram"] = "native"
    grid: list[int] | tuple[int, ...] | None = None

    def __post_init__(self, **kwargs: Any) -> None:
        given = self.base_config or {}
        if not isinstance(given, PreTrainedConfig):
            given = {"model_type": "clip_vision_model", **given}
        self.base_config = nested_config(given, where="base_config")
        super().__post_init__(**kwargs)
        if self.prefix_tokens < 0 or not 1 <= self.feature_rank <= _MAX_RANK:
            raise ConfigError(
                f"prefix_tokens {self.prefix_tokens} and feature_rank {self.feature_rank} fit no encoder",
                where="HFEncoderConfig", fix=f"Use 0 or more, and 1 to {_MAX_RANK}.",
            )  # fmt: skip
        if self.layout == "spectrogram" and self.feature_rank != 3:
            raise ConfigError("a spectrogram has three axes", where="HFEncoderConfig: feature_rank", fix="Use 3.")
        if lacking := [name for name in ("hidden_size", "num_hidden_layers") if not hasattr(self.base, name)]:
            raise ConfigError(f"a {self.base.model_type!r} has no {lacking[0]}", where="HFEncoderConfig: base_config",
                              fix="Use an encoder whose layers all have the same width.")  # fmt: skip
        self.grid = list(self.grid) if self.grid is not None else None
        if len(self.token_grid) != 2 or min(self.token_grid) < 1:
            raise ConfigError(f"grid is {self.grid}", where="HFEncoderConfig", fix="Give height and width.")

    @property
    def base(self) -> Any:
        """Config of the base, typed loosely because every kind has fields of its own."""
        return cast(Any, self.base_config)

    @property
    def token_grid(self) -> tuple[int, ...]:
        """(height, width) of the tokens; a single row where prefix tokens are kept, or patches dropped as well.

        Raises:
            ConfigError: the base's sizes do not tell it.
        """
        if self.grid is not None:
            return tuple(self.grid)
        height, width = _raster(self.base)
        kept = prefix_tokens_of(self.base) - self.prefix_tokens
        known = self.base.model_type in _PREFIX_TOKENS  # of other types more prefix tokens than ours may be right
        return (1, height * width + kept) if kept > 0 or (kept and known) else (height, width)


def prefix_tokens_of(base: Any) -> int:
    """Tokens that the base puts before the raster: one, unless its type is known to have another number."""
    registers = getattr(base, "num_register_tokens", 0) or 0
    return _PREFIX_TOKENS.get(base.model_type, 1) + int(registers)


def _raster(base: Any) -> tuple[int, int]:
    if base.model_type == "audio-spectrogram-transformer":
        patch = base.patch_size
        mel = (base.num_mel_bins - patch) // base.frequency_stride + 1
        return mel, (base.max_length - patch) // base.time_stride + 1
    sizes = [getattr(base, name, None) for name in ("image_size", "patch_size")]
    pairs = [(size, size) if isinstance(size, int) else tuple(size or ()) for size in sizes]
    if [len(pair) for pair in pairs] != [2, 2]:
        raise ConfigError(f"the raster of a {base.model_type!r} cannot be told from its config",
                          where="HFEncoderConfig: grid", fix="Give grid=(height, width).")  # fmt: skip
    (height, width), (rows, columns) = pairs
    return height // rows, width // columns


__all__ = ["HFEncoderConfig"]
