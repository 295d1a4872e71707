"""Configuration of COMET.

Annotations are evaluated here (no `from __future__ import annotations`): strict dataclasses check no field whose type
is a string.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, Self

from huggingface_hub.dataclasses import strict
from transformers import PreTrainedConfig

from polysense.errors import ConfigError
from polysense.modality import Modality
from polysense.models.config import PolysenseConfig
from polysense.models.nested import check_limits, nested_config, nested_values, strict_errors
from polysense.nn.codebook import CodebookOptions
from polysense.nn.codebook_growth import MAX_CODES
from polysense.safety import check_config, check_keys

_MAX_SENSES = 64
_LIMITS = {"hidden_size": 16_384, "intermediate_size": 65_536, "num_hidden_layers": 64, "num_attention_heads": 256,
           "context_layers": 64, "horizon": 64, "steps": 100_000}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class CometSense:
    """What one sense brings.

    Attributes:
        feature_dim: width of its features.
        grid: (height, width) where every step is a map; `None` where it is a vector.
        recurrent: begin with a bi-LSTM, as text does.
        branch: sense whose encoders, decoder and adapter layers it uses; `None` has its own. COMET's related loaders
            read images through the video branch.
        encoded: its sequences come from the model's own encoder (`CometModel.encode`); otherwise from the caller.

    Raises:
        ConfigError: sizes that are not positive, or a recurrent sense of maps.
    """

    feature_dim: int
    grid: Sequence[int] | None = None
    recurrent: bool = False
    branch: str | None = None
    encoded: bool = False

    def __post_init__(self) -> None:
        sides = [] if self.grid is None else list(self.grid)
        numbers = [self.feature_dim, *sides]
        if any(type(each) is not int or not 1 <= each <= 65_536 for each in numbers) or len(sides) not in (0, 2):
            raise ConfigError(f"features of width {self.feature_dim!r} on a grid {self.grid!r}",
                              fix="Give positive whole numbers; a grid has a height and a width.")  # fmt: skip
        if sides and self.recurrent:
            raise ConfigError("a sense of maps cannot be recurrent", fix="Drop the grid or recurrent.")

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "grid": None if self.grid is None else list(self.grid)}

    @classmethod
    def from_dict(cls, values: Any, *, where: str) -> Self:
        """Rebuild a sense from a checkpoint.

        Raises:
            ConfigError: unknown, missing or mistyped keys.
        """
        kinds = {"feature_dim": int, "grid": list | tuple | None, "recurrent": bool, "branch": str | None,
                 "encoded": bool}  # fmt: skip
        if not isinstance(values, Mapping) or "feature_dim" not in values:
            raise ConfigError("the sense has no feature_dim", where=where, fix="Use the config as it was saved.")
        check_keys(values, [*kinds], where)
        for name, value in values.items():
            if not isinstance(value, kinds[name]):
                raise ConfigError(f"{name} of a sense is {value!r}", where=where, fix="Correct its type.")
        return cls(**values)


def sense_values(senses: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Name to all values of every sense, those that are not given included; errors: see `CometSense.from_dict`."""
    return {
        name: CometSense.from_dict(dict(each), where=f"modalities.{name}").to_dict() for name, each in senses.items()
    }


@strict
class CometConfig(PolysenseConfig):
    """What a COMET model is made of. The defaults are CMG's released sizes (method-facts 2).

    Attributes:
        modalities: name to the values of a `CometSense` of every sense, in order of addition.
        encoder_config: a frozen encoder of raw features inside the model, if any: "unialign", "hf_encoder" or another
            type whose model implements `ModalityEncoder`.
        steps: how often the single step of a still is repeated where `encoder_config` gives tokens.
        hidden_size: width of semantic features and codes.
        num_hidden_layers, num_attention_heads, intermediate_size, dropout: of the semantic encoders.
        codebook_sizes: codes of every stage, first to last: K1 and then the K2 of each that protects what is there,
            0 where it adds none.
        codebook_decay, codebook_epsilon: gamma and the smoothing of the moving averages.
        restart_after: updates after which an unused code is drawn anew; 0 never. About a quarter of a stage.
        protect_old_codes: never restart codes of earlier stages.
        hold_old_codes: nor move them, if they are protected. As printed (false) they go on moving, and take along what
            senses that are not there had learned to say by them.
        mixing: how senses are blended in the moving averages: "time", "attention" or another name in
            `polysense.nn.alignment.ALIGNMENTS`, or "none" (plain EMA-VQ).
        assignment: "nearest", or "attention": a mixture of all codes (the prototypes of TURN).
        num_experts: experts of the CMoE-Adapter; 0 leaves it out (CMG).
        expert_combine, expert_specific, expert_residual: see `CommonSpecificExperts`.
        context_layers, horizon: of the predictors of Cross-CPC.
        information: whether there are the approximations that vCLUB needs.

    Raises:
        ConfigError: sizes out of range, options that cannot be used, or a sense that does not fit beside the others.
    """

    model_type = "comet"

    modalities: dict[str, Any] = field(default_factory=dict)
    encoder_config: dict[str, Any] | PreTrainedConfig | None = None
    steps: int = 10
    hidden_size: int = 256
    num_hidden_layers: int = 2
    num_attention_heads: int = 4
    intermediate_size: int = 1024
    dropout: int | float = 0.1
    codebook_sizes: list[int] | tuple[int, ...] = (400,)
    codebook_decay: int | float = 0.99
    codebook_epsilon: int | float = 1e-5
    restart_after: int = 300
    protect_old_codes: bool = True
    hold_old_codes: bool = True
    mixing: str = "time"
    assignment: Literal["nearest", "attention"] = "nearest"
    num_experts: int = 6
    expert_combine: Literal["sum", "chain"] = "sum"
    expert_specific: bool = True
    expert_residual: bool = False
    context_layers: int = 2
    horizon: int = 1
    information: bool = True

    def __post_init__(self, **kwargs: Any) -> None:
        check_config({"num_labels": kwargs.get("num_labels"), "modalities": self.modalities}, where="CometConfig")
        if self.encoder_config is not None:
            self.encoder_config = nested_config(self.encoder_config, where="encoder_config")
        self.modalities, self.codebook_sizes = dict(self.modalities), list(self.codebook_sizes)
        super().__post_init__(**kwargs)
        check_limits({name: getattr(self, name) for name in _LIMITS}, _LIMITS, where="CometConfig")
        sizes = {
            f"codebook_sizes[{index}]": size
            for index, size in enumerate(self.codebook_sizes)
            if size != 0 or not index
        }
        check_limits(sizes, dict.fromkeys(sizes, MAX_CODES), where="CometConfig")
        if not sizes or sum(self.codebook_sizes) > MAX_CODES:
            raise ConfigError(f"codebook_sizes is {self.codebook_sizes}", where="CometConfig",
                              fix=f"Give one size per stage, at most {MAX_CODES} codes together.")  # fmt: skip
        if not 0 <= self.num_experts <= 64 or not 0 <= self.dropout < 1:
            raise ConfigError(f"num_experts is {self.num_experts} and dropout {self.dropout}", where="CometConfig",
                              fix="Use 0 to 64 experts and a share.")  # fmt: skip
        self.codebook  # noqa: B018  # its values are checked as it is made
        for name, values in self.modalities.items():
            self.check_sense(name, values)

    def check_sense(self, name: str, values: Any) -> None:
        """Refuse a sense that does not fit beside the others.

        Raises:
            ConfigError: says what is wrong with it.
        """
        where = f"modalities.{name}"
        if (senses := len({*self.modalities, name})) > _MAX_SENSES:
            raise ConfigError(f"there are {senses} modalities", where=where, fix=f"Use at most {_MAX_SENSES}.")
        Modality(name=name, kind="grid")  # a name becomes a module's name
        sense = CometSense.from_dict(values, where=where)
        if sense.encoded and self.encoder_config is None:
            raise ConfigError("the sense is encoded, the model has no encoder", where=where,
                              fix="Give encoder_config, or feed it sequences.")  # fmt: skip
        if sense.branch is None:
            return
        other = self.modalities.get(sense.branch)
        if sense.branch == name or other is None:
            raise ConfigError(f"there is no branch {sense.branch!r}", where=where, fix="Name another, earlier sense.")
        own, theirs = sense, CometSense.from_dict(other, where=f"modalities.{sense.branch}")
        alike = [(each.feature_dim, each.grid and list(each.grid), each.recurrent) for each in (own, theirs)]
        if theirs.branch is not None or alike[0] != alike[1]:
            raise ConfigError(f"the sense does not fit the branch {sense.branch!r}", where=where,
                              fix="A branch has its own encoders and features of the same sizes.")  # fmt: skip

    @property
    def senses(self) -> dict[str, CometSense]:
        """Every sense, in order of addition (of name, once saved and loaded)."""
        return {name: CometSense(**values) for name, values in self.modalities.items()}

    @property
    def codebook(self) -> CodebookOptions:
        """How codes follow the features."""
        return CodebookOptions(
            decay=float(self.codebook_decay), epsilon=float(self.codebook_epsilon), restart_after=self.restart_after,
            hold_protected=self.hold_old_codes, mixing=self.mixing,
        )  # fmt: skip

    @property
    def protected_codes(self) -> int:
        """Codes of earlier stages, if they are protected from restarts."""
        return sum(self.codebook_sizes[:-1]) if self.protect_old_codes else 0

    def to_dict(self) -> dict[str, Any]:
        """All values as JSON, the encoder's config included."""
        values: dict[str, Any] = super().to_dict()
        if isinstance(self.encoder_config, PreTrainedConfig):
            values["encoder_config"] = nested_values(self.encoder_config)
        return values


_DECIDED_ELSEWHERE = {"model_type", "modalities", "encoder_config", "codebook_sizes", "steps"}
OPTIONS = tuple(sorted(set(CometConfig.__annotations__) - _DECIDED_ELSEWHERE))
"""What one chooses about a model of given senses and codes."""


def check_options(options: Mapping[str, Any], *, where: str) -> None:
    """Refuse values of `OPTIONS` that no model could have.

    Args:
        where: where they stand, for messages.

    Raises:
        ConfigError: an unknown, mistyped or unusable option.
    """
    check_keys(options, OPTIONS, where)
    with strict_errors(where):
        CometConfig(**options)


__all__ = ["OPTIONS", "CometConfig", "CometSense", "check_options", "sense_values"]
