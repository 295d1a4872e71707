"""Configuration of BEATs.

Annotations are evaluated here (no `from __future__ import annotations`): strict dataclasses check no field whose type
is a string.
"""

import math
from collections.abc import Mapping
from typing import Any, Self

from huggingface_hub.dataclasses import strict

from polysense.errors import ConfigError
from polysense.modality import Modality
from polysense.models.config import PolysenseConfig
from polysense.models.nested import check_limits

_LIMITS = {
    "patch_dim": 65_536, "hidden_size": 65_536, "intermediate_size": 262_144, "num_hidden_layers": 256,
    "num_attention_heads": 1_024, "patch_size": 1_024, "num_mel_bins": 16_384, "max_length": 1_000_000,
    "conv_kernel": 4_096, "conv_groups": 65_536, "num_buckets": 65_536, "max_distance": 1_000_000,
}  # fmt: skip

# names of the published checkpoints' own config
_PUBLISHED = {
    "embed_dim": "patch_dim", "encoder_embed_dim": "hidden_size", "encoder_ffn_embed_dim": "intermediate_size",
    "encoder_layers": "num_hidden_layers", "encoder_attention_heads": "num_attention_heads",
    "input_patch_size": "patch_size", "conv_pos": "conv_kernel", "conv_pos_groups": "conv_groups",
    "num_buckets": "num_buckets", "max_distance": "max_distance",
}  # fmt: skip
_REQUIRED = {
    "relative_position_embedding": True, "gru_rel_pos": True, "deep_norm": True, "layer_norm_first": False,
    "conv_bias": False, "activation_fn": "gelu",
}  # fmt: skip

# Kaldi filter banks of waveforms times 2^15 have 30 ln 2 more than ours; (x - 15.41663) / (2 * 6.55582) follows
BEATS_PROCESSOR: Mapping[str, Any] = {
    "picture": False, "mel_bins": 128, "mean": 15.41663 - 30 * math.log(2), "std": 2 * 6.55582,
}  # fmt: skip
"""Options of the audio processor that give BEATs what it was trained on, with two small differences: Kaldi's default
window is Povey's where ours is Hann's, and energies below 1e-7 of full scale are not told apart."""


@strict
class BeatsConfig(PolysenseConfig):
    """What a `BeatsEncoder` is made of; the defaults are those of BEATs iter3+ (method-facts 4.1).

    Attributes:
        patch_dim: width of a patch before it is projected to `hidden_size`.
        patch_size: side of a patch, in frames and mel bins.
        num_mel_bins: height of a spectrogram.
        max_length: frames of a window; 998 are ten seconds. Other lengths are taken as well.
        conv_kernel, conv_groups: of the convolution that adds positions.
        num_buckets, max_distance: of the relative positions, in tokens.

    Raises:
        ConfigError: sizes out of range or that do not go together.
    """

    model_type = "beats"

    patch_dim: int = 512
    hidden_size: int = 768
    intermediate_size: int = 3072
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    patch_size: int = 16
    num_mel_bins: int = 128
    max_length: int = 998
    conv_kernel: int = 128
    conv_groups: int = 16
    num_buckets: int = 320
    max_distance: int = 800
    layer_norm_eps: float = 1e-5
    initializer_range: float = 0.02

    def __post_init__(self, **kwargs: Any) -> None:
        super().__post_init__(**kwargs)
        check_limits({name: getattr(self, name) for name in _LIMITS}, _LIMITS, where="BeatsConfig")
        if self.hidden_size % self.num_attention_heads or self.hidden_size % self.conv_groups:
            raise ConfigError("hidden_size is no multiple of num_attention_heads and conv_groups",
                              where="BeatsConfig", fix="Make it one.")  # fmt: skip
        if self.num_buckets < 4 or self.max_distance <= self.num_buckets // 4:
            raise ConfigError(f"num_buckets {self.num_buckets} and max_distance {self.max_distance} do not fit",
                              where="BeatsConfig", fix="Use at least 4, and more than a quarter of it.")  # fmt: skip
        if self.patch_size > min(self.num_mel_bins, self.max_length):
            raise ConfigError(f"patch_size {self.patch_size} exceeds the picture", where="BeatsConfig",
                              fix="Use one no larger than num_mel_bins and max_length.")  # fmt: skip

    @property
    def token_grid(self) -> tuple[int, int]:
        """(time, frequency) patches of a window."""
        return self.max_length // self.patch_size, self.num_mel_bins // self.patch_size

    @property
    def senses(self) -> dict[str, Modality]:
        """The sense that it was made for, with the options of its processor."""
        options = {**BEATS_PROCESSOR, "mel_bins": self.num_mel_bins}
        return {"audio": Modality(name="audio", kind="spectrogram", channels=1, processor=options)}

    @classmethod
    def from_published(cls, cfg: Mapping[str, Any]) -> Self:
        """From the `cfg` of a published checkpoint.

        Raises:
            ConfigError: a variant that `BeatsEncoder` is not.
        """
        if other := {key: cfg[key] for key, wanted in _REQUIRED.items() if cfg.get(key, wanted) != wanted}:
            raise ConfigError(f"this checkpoint is another variant ({other})", where="cfg",
                              fix="Use BEATs iter1 to iter3+.")  # fmt: skip
        return cls(**{name: cfg[key] for key, name in _PUBLISHED.items() if key in cfg})


__all__ = ["BEATS_PROCESSOR", "BeatsConfig"]
