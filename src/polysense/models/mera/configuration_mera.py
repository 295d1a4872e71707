"""Configuration of MERA.

Annotations are evaluated here (no `from __future__ import annotations`): strict dataclasses check no field whose type
is a string.
"""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar, Self, cast

from huggingface_hub.dataclasses import strict
from transformers import AutoConfig, PreTrainedConfig
from transformers.configuration_utils import SubConfigSpec

from polysense.errors import ConfigError
from polysense.modality import Modality
from polysense.models.config import PolysenseConfig
from polysense.models.mera.adapters import MeraAdapters
from polysense.models.nested import nested_config, nested_values
from polysense.nn.connectors import connector_options
from polysense.safety import check_config, check_keys

_MAX_SENSES = 64
_LIMITS = {"layer": (-1_024, 1_024), "pool": (1, 64), "token_id": (0, 1 << 24)}
_TYPES = {"encoder": str, "token": str, "token_id": int, "layer": int, "pool": int, "connector": Mapping,
          "spec": Mapping}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class MeraSense:
    """How one sense reaches the language model.

    Attributes:
        spec: the sense as its encoder and its processor know it.
        encoder: key of its encoder; several senses may share one.
        connector: `{"kind": ..., **options}` of its own connector (`polysense.nn.connectors`).
        token: placeholder in a text for one item of this sense.
        token_id: the placeholder among `input_ids`. It needs no row in the embeddings, which the features replace.
        layer: hidden layer of the encoder whose tokens are used (-2 for CLIP's pictures, as in LLaVA).
        pool: side of the squares of tokens that are averaged before the connector (2 for video; method-facts 4.1).

    Raises:
        ConfigError: a number out of range, no placeholder, or a connector without a kind.
    """

    spec: Mapping[str, Any]
    encoder: str
    connector: Mapping[str, Any]
    token: str
    token_id: int
    layer: int = -1
    pool: int = 1

    def __post_init__(self) -> None:
        for name, (low, high) in _LIMITS.items():
            if not low <= getattr(self, name) <= high:
                raise ConfigError(f"{name} of a sense is {getattr(self, name)}", fix=f"Use {low} to {high}.")
        if not self.token.strip() or len(self.token) > 64:
            raise ConfigError(f"token of a sense is {self.token!r}", fix="Use a short mark such as '<image>'.")
        connector_options(self.connector)

    @property
    def modality(self) -> Modality:
        """The spec as an object."""
        return Modality.from_dict(self.spec)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Any, *, where: str) -> Self:
        """Rebuild a sense from a checkpoint.

        Raises:
            ConfigError: unknown, missing or mistyped keys.
        """
        if not isinstance(values, Mapping):
            raise ConfigError("the sense is no mapping", where=where, fix="Use the config as it was saved.")
        check_keys(values, [*_TYPES], where)
        if lacking := sorted({*_TYPES} - {"layer", "pool", *values}):
            raise ConfigError(f"the sense lacks {lacking}", where=where, fix="Use the config as it was saved.")
        for name, value in values.items():
            if not isinstance(value, _TYPES[name]) or isinstance(value, bool):
                raise ConfigError(f"{name} of a sense is {value!r}", where=where,
                                  fix=f"Give a value of type {_TYPES[name].__name__}.")  # fmt: skip
        return cls(**values)


@strict
class MeraConfig(PolysenseConfig):
    """What a MERA model is made of.

    Attributes:
        text_config: the language model, any that `AutoModel` knows; Llama by default.
        encoder_configs: key to the config of a frozen encoder: "unialign", "hf_encoder" or another type whose model
            implements `ModalityEncoder`.
        modalities: name to the values of a `MeraSense` of every sense, in order of addition.
        tie_word_embeddings: whether the output layer is the embedding matrix; the language model's own setting.
        adapters: values of the `MeraAdapters` inside the language model, if it has any.

    Raises:
        ConfigError: a nested config, sense or adapter that cannot be used, or too many of them.
    """

    model_type = "mera"
    sub_configs_defaults: ClassVar[dict[str, Any]] = {
        "text_config": SubConfigSpec(config_class=AutoConfig, model_type="llama")
    }

    text_config: dict[str, Any] | PreTrainedConfig | None = None
    encoder_configs: dict[str, Any] = field(default_factory=dict)
    modalities: dict[str, Any] = field(default_factory=dict)
    tie_word_embeddings: bool = False
    adapters: dict[str, Any] | None = None

    def __post_init__(self, **kwargs: Any) -> None:
        check_config({"num_labels": kwargs.get("num_labels"), "modalities": self.modalities}, where="MeraConfig")
        for name, part in (("encoder_configs", self.encoder_configs), ("modalities", self.modalities)):
            if len(part) > _MAX_SENSES:
                raise ConfigError(f"the config has {len(part)} {name}", fix=f"Use at most {_MAX_SENSES}.")
        given = self.text_config or {}
        if not isinstance(given, PreTrainedConfig):
            given = {"model_type": "llama", **given}
        self.text_config = nested_config(given, where="text_config")
        self.encoder_configs = {key: self._encoder_config(key, value) for key, value in self.encoder_configs.items()}
        self.modalities = dict(self.modalities)
        super().__post_init__(**kwargs)
        self.tie_word_embeddings = bool(self.tie_word_embeddings or getattr(self.llm, "tie_word_embeddings", False))
        for name, values in self.modalities.items():
            self.check_sense(name, values, self.encoder_configs)
        if self.adapters is not None:
            MeraAdapters.from_dict(self.adapters)

    @staticmethod
    def _encoder_config(key: str, value: Any) -> PreTrainedConfig:
        where = f"encoder_configs.{key}"
        if not isinstance(value, dict | PreTrainedConfig):
            raise ConfigError("the encoder's config is no mapping", where=where,
                              fix="Use the config as it was saved.")  # fmt: skip
        Modality(name=key, kind="grid")  # a key becomes a module's name, as a sense's does
        return nested_config(value, where=where)

    def check_sense(self, name: str, values: Any, encoders: Iterable[str]) -> None:
        """Refuse a sense that does not fit beside the others.

        Args:
            values: those of a `MeraSense`.
            encoders: keys that it may name.

        Raises:
            ConfigError: says what is wrong with it.
        """
        where = f"modalities.{name}"
        sense = MeraSense.from_dict(values, where=where)
        if name == "text" or sense.modality.name != name:
            raise ConfigError("the sense has no spec of its own", where=where, fix="Use the config as it was saved.")
        if sense.encoder not in set(encoders):
            raise ConfigError(f"there is no encoder {sense.encoder!r}", where=where,
                              fix=f"Known encoders: {', '.join(encoders) or 'none'}.")  # fmt: skip
        others = [other for key, other in self.modalities.items() if key != name and isinstance(other, dict)]
        if any(sense.token_id == other.get("token_id") or sense.token == other.get("token") for other in others):
            raise ConfigError(f"the placeholder {sense.token!r} ({sense.token_id}) is another sense's", where=where,
                              fix="Give every sense a token and an id of its own.")  # fmt: skip
        if sense.token_id == self.llm.pad_token_id:
            raise ConfigError(f"the placeholder's id {sense.token_id} is the padding's", where=where,
                              fix="Give the sense another id.")  # fmt: skip

    @property
    def llm(self) -> Any:
        """Config of the language model, typed loosely because every kind has fields of its own."""
        return cast(Any, self.text_config)

    @property
    def senses(self) -> dict[str, MeraSense]:
        """Every sense, in order of addition (of name, once saved and loaded)."""
        return {name: MeraSense(**values) for name, values in self.modalities.items()}

    def to_dict(self) -> dict[str, Any]:
        """All values as JSON, the encoders' configs included."""
        values: dict[str, Any] = super().to_dict()
        values["encoder_configs"] = {key: nested_values(config) for key, config in self.encoder_configs.items()}
        return values


__all__ = ["MeraConfig", "MeraSense"]
