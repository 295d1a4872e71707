"""Configuration of UniAlign.

Annotations are evaluated here (no `from __future__ import annotations`): strict dataclasses check no field whose type
is a string.
"""

import math
from collections.abc import Mapping
from dataclasses import field
from typing import Any, ClassVar, Literal, cast

from huggingface_hub.dataclasses import strict
from transformers import CLIPConfig, PreTrainedConfig
from transformers.configuration_utils import SubConfigSpec

from polysense.errors import ConfigError
from polysense.modality import Modality
from polysense.models.config import PolysenseConfig
from polysense.models.nested import check_limits, strict_errors
from polysense.safety import check_config, check_keys

_MAX_SENSES = 64
_LIMITS = {"num_experts": 64, "expert_rank": 1024, "top_k": 4096}
_CLIP_LIMITS = {
    "hidden_size": 16_384, "intermediate_size": 65_536, "num_hidden_layers": 128, "num_attention_heads": 256,
    "vocab_size": 1_000_000, "max_position_embeddings": 8_192, "image_size": 2_048, "patch_size": 256,
    "projection_dim": 16_384, "num_channels": 64,
}  # fmt: skip


@strict
class UniAlignConfig(PolysenseConfig):
    """What a UniAlign model is made of.

    Attributes:
        clip_config: the frozen base, any Hugging Face CLIP.
        modalities: name to `Modality` spec (as a dict) of every sense beyond image and text.
        expert_site: "linear" puts experts on fc1 and fc2 (method-facts 1.1), "block" beside the whole FFN (Eq. 7).
        num_experts: experts per group and site.
        top_k: experts used per token; `None` uses all that the token may see.
        expert_rank, expert_alpha: rank r and scale alpha of every expert (section 3.3: 4 and 32).
        expert_init: "lora" (B zero) or "svd" (leading singular triplets, subtracted at run time; needs "linear").
        routing: "group" (Eq. 5) or "global" (Eq. 6).
        visible_groups: with global routing, the groups whose experts each group's router may choose. A sense added
            later is masked for the older ones until `unmask_experts`; senses that one stage trains see one another.
        image_experts: give images an expert group too; without it the image path is the base's, bit for bit.
        unified_text: encode text through the shared encoder instead of CLIP's text tower (method-facts 1.4).
        image_tokenized: senses that are read through the image tokenizer as well, both embeddings averaged (Table 3,
            starred row, does so for depth).
        train_logit_scale: let the temperature train; frozen at the base's value otherwise.

    Raises:
        ConfigError: sizes out of range, options that exclude each other, or a modality without a spec of its own.
    """

    model_type = "unialign"
    sub_configs_defaults: ClassVar[dict[str, Any]] = {"clip_config": SubConfigSpec(config_class=CLIPConfig)}

    clip_config: dict[str, Any] | PreTrainedConfig | None = None
    modalities: dict[str, Any] = field(default_factory=dict)
    expert_site: Literal["linear", "block"] = "linear"
    num_experts: int = 2
    top_k: int | None = None
    expert_rank: int = 4
    expert_alpha: int | float = 32.0
    expert_init: Literal["lora", "svd"] = "lora"
    routing: Literal["group", "global"] = "group"
    visible_groups: dict[str, list[str]] = field(default_factory=dict)
    image_experts: bool = False
    unified_text: bool = False
    image_tokenized: list[str] | tuple[str, ...] = ()
    train_logit_scale: bool = False

    def __post_init__(self, **kwargs: Any) -> None:
        # AutoConfig comes here before any check of the folder, and super().__post_init__ builds the sub-configs
        check_config({"num_labels": kwargs.get("num_labels"), "clip_config": self.clip_config}, where="UniAlignConfig")
        self.modalities = dict(self.modalities)
        self.visible_groups = dict(self.visible_groups)
        self.image_tokenized = list(self.image_tokenized)
        super().__post_init__(**kwargs)
        self._check_sizes()
        if len(self.modalities) > _MAX_SENSES:
            raise ConfigError(f"the config has {len(self.modalities)} modalities", fix=f"Use at most {_MAX_SENSES}.")
        for name, spec in self.modalities.items():
            if name in {"image", "text"} or not isinstance(spec, dict) or Modality.from_dict(spec).name != name:
                raise ConfigError(f"modality {name!r} has no spec of its own", where="config.json: modalities",
                                  fix="Use the checkpoint as it was saved.")  # fmt: skip
        seen = {name for groups in [self.visible_groups, *self.visible_groups.values()] for name in groups}
        if unknown := sorted(seen - set(self.groups)):
            raise ConfigError(f"visible_groups names {unknown}, which the model does not have",
                              fix=f"Known groups: {', '.join(self.groups) or 'none'}.")  # fmt: skip
        if unknown := [name for name in self.image_tokenized if name not in self.modalities]:
            raise ConfigError(f"image_tokenized names {unknown}, which the model does not have",
                              fix=f"Known senses: {', '.join(self.modalities) or 'none'}.")  # fmt: skip
        if self.expert_init == "svd" and self.expert_site == "block":
            raise ConfigError("expert_init svd needs a matrix to decompose, which expert_site block does not have",
                              fix="Use expert_site: linear or expert_init: lora.")  # fmt: skip
        needed, there = (
            self.num_experts * self.expert_rank,
            min(self.vision.hidden_size, self.vision.intermediate_size),
        )
        if self.expert_init == "svd" and needed > there:
            raise ConfigError(f"{self.num_experts} experts of rank {self.expert_rank} need {needed} singular values, "
                              f"the FFN's matrices have {there}",
                              fix="Lower expert_rank or num_experts, or use expert_init: lora.")  # fmt: skip

    def _check_sizes(self) -> None:
        """Refuse sizes that no CLIP has: a hostile config must not make us allocate."""
        check_limits({name: getattr(self, name) for name in _LIMITS}, _LIMITS, where="UniAlignConfig")
        if not 0 < self.expert_alpha < math.inf:
            raise ConfigError(f"expert_alpha is {self.expert_alpha}", where="UniAlignConfig",
                              fix="Use a finite value above 0: the experts are scaled by alpha / rank.")  # fmt: skip
        for part in (self.text, self.vision):
            limits = {f"{part.base_config_key}.{name}": limit for name, limit in _CLIP_LIMITS.items()}
            sizes = {key: getattr(part, key.rpartition(".")[2], None) for key in limits}
            check_limits(sizes, limits, where="UniAlignConfig")

    @property
    def vision(self) -> Any:
        """Config of the base's vision tower, which encodes every sense."""
        return cast(Any, self.clip_config).vision_config

    @property
    def text(self) -> Any:
        """Config of the base's text tower."""
        return cast(Any, self.clip_config).text_config

    @property
    def groups(self) -> list[str]:
        """Expert groups, in order of addition."""
        own = [name for name, present in (("image", self.image_experts), ("text", self.unified_text)) if present]
        return list(dict.fromkeys([*own, *(sense.expert_group for sense in self.senses.values())]))

    @property
    def senses(self) -> dict[str, Modality]:
        """Specs of the senses beyond image and text."""
        return {name: Modality.from_dict(spec) for name, spec in self.modalities.items()}


OPTIONS = tuple(
    sorted(
        set(UniAlignConfig.__annotations__) - {"clip_config", "modalities", "visible_groups", "sub_configs_defaults"}
    )
)
"""What one chooses about a model on a given CLIP with given senses."""


def config_on_clip(
    clip: PreTrainedConfig, modalities: Mapping[str, Any], options: Mapping[str, Any], *, where: str
) -> UniAlignConfig:
    """The config of a model on a CLIP.

    Args:
        clip: its config.
        modalities: sense to its spec, as a dict.
        options: values of `OPTIONS`.
        where: where the options stand, for messages.

    Raises:
        ConfigError: an unknown, mistyped or unusable option.
    """
    check_keys(options, OPTIONS, where)
    with strict_errors(where):
        return UniAlignConfig(clip_config=clip, modalities=dict(modalities), **options)


__all__ = ["OPTIONS", "UniAlignConfig", "config_on_clip"]
