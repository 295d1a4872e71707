"""`ModalityProcessor`: what turns one raw sample of a sense into features, and a list of them into a batch.

A processor is a frozen dataclass whose fields are its options, so that it saves as JSON inside the model's processor
file and is rebuilt through the registry. Shapes of one sample, by tokenizer kind (a batch puts an axis in front):

    grid         channels height width            frames       time channels height width
    points       groups neighbours channels       spectrogram  windows channels mel frames
    text         length
"""

from __future__ import annotations

import inspect
import types
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields
from typing import Any, ClassVar, Literal, Self, TypeVar, Union, get_args, get_origin, get_type_hints

import numpy as np
import torch
from jaxtyping import Shaped
from torch import Tensor

from polysense.errors import ConfigError, FeatureShapeError
from polysense.modality import JsonValue, Modality, get_processor_class

Facts = Mapping[str, Any]
P = TypeVar("P", bound="ModalityProcessor")

MAX_SIZE = 2_048  # as models have it: a hostile checkpoint must not make us allocate


# metadata of a field that is no JSON option but a part handed in (a tokenizer), which `to_dict` leaves out
COMPONENT: Mapping[str, bool] = types.MappingProxyType({"component": True})


@dataclass(frozen=True, kw_only=True)
class ModalityProcessor(ABC):
    """Base of all processors; a subclass adds its options as fields and implements `load` and `features`.

    Attributes:
        modality: name of the modality whose features it makes.
        size: side of the encoder's picture in pixels; senses without a raster ignore it.
        channels: values per pixel, cell or point; always the modality spec's.
    """

    kind: ClassVar[str]
    fact_names: ClassVar[tuple[str, ...] | None] = None  # all facts that `load` looks at, where that is settled
    time_axis: ClassVar[bool] = False  # whether the first axis of a sample may differ within a batch

    modality: str
    size: int = 224
    channels: int = 3

    def __post_init__(self) -> None:
        self._require(self.size >= 1 and self.channels >= 1, "size and channels", "at least 1")
        self._require(self.size <= MAX_SIZE, "size", f"at most {MAX_SIZE}")

    @abstractmethod
    def load(self, source: Any, facts: Facts | None = None) -> Any:
        """Read and decode one source under guard.

        Args:
            source: path, bytes, binary file, array, or another in-memory form that the modality knows.
            facts: what the manifest says of this sample beyond its path (for example camera intrinsics).

        Raises:
            MediaError: the source cannot be used as a sample; the message names it, the reason and what to do.
        """

    @abstractmethod
    def features(self, raw: Any, rng: np.random.Generator | None = None) -> Shaped[Tensor, " ..."]:
        """Features of one loaded sample; with `rng`, augmented for training by draws from it alone."""

    def __call__(
        self,
        sources: Sequence[Any],
        *,
        facts: Sequence[Facts | None] | None = None,
        rngs: Sequence[np.random.Generator | None] | None = None,
        load: Callable[[Any, Facts | None], Any] | None = None,
    ) -> dict[str, Tensor]:
        """Load a batch: `{modality}_values`, and `{modality}_mask` where lengths differ.

        Args:
            load: used in place of the method `load`, for example one that remembers.

        Raises:
            MediaError: one of the sources cannot be used.
            FeatureShapeError: there are no sources, or facts or rngs of another number.
        """
        facts = [None] * len(sources) if facts is None else facts
        rngs = [None] * len(sources) if rngs is None else rngs
        if not len(facts) == len(rngs) == len(sources):
            raise FeatureShapeError(
                f"{len(sources)} sources of {self.modality} came with {len(facts)} facts and {len(rngs)} generators",
                fix="Give one of each per source, or none.",
            )
        load = load or self.load
        return self.batch([self.features(load(s, f), r) for s, f, r in zip(sources, facts, rngs, strict=True)])

    def batch(self, samples: Sequence[Shaped[Tensor, " ..."]]) -> dict[str, Tensor]:
        """Stack samples under the model's input names; a time axis that differs is padded with zeros and masked.

        Raises:
            FeatureShapeError: no samples, or shapes that differ in more than a time axis.
        """
        values, mask = pad_stack(samples, time_axis=self.time_axis, where=self.modality)
        return {self.spec.values_key: values} | ({} if mask is None else {self.spec.mask_key: mask})

    @property
    def spec(self) -> Modality:
        """The modality as this processor sees it: name, kind and channels."""
        return Modality(name=self.modality, kind=self.kind, channels=self.channels)

    def assumed(self, facts: Facts) -> Facts:
        """What stands in for facts that a sample lacks although its features depend on them; by default none do."""
        return {}

    def to_dict(self) -> dict[str, JsonValue]:
        """All options as JSON values; `from_dict` gives the same processor back."""
        values = {name: getattr(self, name) for name in self._options()}
        return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}

    @classmethod
    def from_dict(cls, options: Mapping[str, JsonValue], **components: Any) -> Self:
        """Rebuild a processor; called on the base class, the registry says which class `options["modality"]` has.

        Raises:
            ConfigError: unknown, missing or mistyped options.
            UnregisteredModalityError: the base class was asked for a modality that this process does not know.
        """
        if inspect.isabstract(cls):
            if not isinstance(name := options.get("modality"), str):
                raise ConfigError("processor options lack the name of their modality", where="modality",
                                  fix="Save them with to_dict().")  # fmt: skip
            kind: type[Self] = get_processor_class(name)
            return kind.from_dict(options, **components)
        known = cls._options()
        if unknown := sorted(set(options) - set(known)):
            raise ConfigError(f"{cls.__name__} has no options {unknown}", fix=f"Known options: {', '.join(known)}.")
        given = {**options, **components}
        if missing := sorted(f.name for f in fields(cls) if _is_required(f) and f.name not in given):
            raise ConfigError(f"{cls.__name__} lacks {missing}", fix="Give a value for each.")
        hints = get_type_hints(cls)
        where = options.get("modality", cls.__name__)
        return cls(**components, **{name: _coerced(options[name], hints[name], f"{where}.{name}") for name in options})

    @classmethod
    def _options(cls) -> tuple[str, ...]:
        return tuple(f.name for f in fields(cls) if not f.metadata.get("component"))

    def _require(self, holds: bool, option: str, rule: str) -> None:
        """Raise `ConfigError` about `option` unless `holds`."""
        if not holds:
            raise ConfigError(
                f"{option} of the {self.modality} processor must be {rule}",
                where=f"{self.modality}.{option}",
                fix="Correct the value in the configuration.",
            )


def processor_for(modality: Modality, size: int, **overrides: Any) -> ModalityProcessor:
    """The registered processor of `modality` with the options of its spec.

    Args:
        modality: spec, for example `get_modality("audio")` or one from a checkpoint.
        size: side of the encoder's picture in pixels.
        overrides: options that replace the spec's, and components such as `tokenizer=`.

    Raises:
        ConfigError: unknown, missing or mistyped options; a processor class for another tokenizer kind; `channels`
            among the overrides, since the tokenizer is built from the spec's.
        UnregisteredModalityError: this process does not know the processor of the modality.
    """
    cls: type[ModalityProcessor] = get_processor_class(modality.name)
    if cls.kind != modality.kind:
        raise ConfigError(f"{cls.__name__} makes features of kind {cls.kind!r}, and modality {modality.name!r} is "
                          f"declared as {modality.kind!r}", fix="Make the kinds agree.")  # fmt: skip
    if fixed := sorted({"modality", "size", "channels"} & {*modality.processor, *overrides}):
        raise ConfigError(
            f"{fixed} of modality {modality.name!r} cannot be processor options",
            fix="Change the modality's spec with dataclasses.replace, so that model and processor agree.",
        )
    components = {f.name for f in fields(cls) if f.metadata.get("component")}
    options = {**modality.processor, **{k: v for k, v in overrides.items() if k not in components}}
    parts = {k: v for k, v in overrides.items() if k in components}
    return cls.from_dict({"modality": modality.name, "size": size, "channels": modality.channels, **options}, **parts)


def pad_stack(
    samples: Sequence[Shaped[Tensor, " ..."]], *, time_axis: bool, where: str, value: float | int = 0
) -> tuple[Shaped[Tensor, "batch ..."], Shaped[Tensor, "batch time"] | None]:
    """Stack samples; where their first axes differ and `time_axis` allows it, pad with `value` and return the mask.

    Raises:
        FeatureShapeError: no samples, or shapes that differ otherwise.
    """
    if not samples:
        raise FeatureShapeError(f"a batch of {where} has no samples", fix="Leave the modality out of this batch.")
    shapes = {tuple(s.shape) for s in samples}
    if len(shapes) == 1:
        return torch.stack(list(samples)), None
    if not time_axis or len({shape[1:] for shape in shapes}) > 1:
        raise FeatureShapeError(f"samples of {where} have different shapes {sorted(shapes)}",
                                fix="Process all samples of a batch with one processor.")  # fmt: skip
    lengths = torch.tensor([len(s) for s in samples])
    out = samples[0].new_full((len(samples), int(lengths.max()), *samples[0].shape[1:]), value)
    for row, sample in zip(out, samples, strict=True):
        row[: len(sample)] = sample
    return out, torch.arange(out.shape[1]) < lengths[:, None]


def _is_required(option: Any) -> bool:
    return option.default is MISSING and option.default_factory is MISSING


def _coerced(value: Any, hint: Any, where: str) -> Any:
    """`value` as the annotation asks for: lists as tuples, one number as a tuple of one, int as float."""
    origin, args = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        if value is None and type(None) in args:
            return None
        return _coerced(value, next(a for a in args if a is not type(None)), where)
    if origin is Literal and value in args:
        return value
    if origin is tuple:
        items = [value] if isinstance(value, int | float) and not isinstance(value, bool) else value
        if isinstance(items, list | tuple) and (args[-1] is Ellipsis or len(items) == len(args)):
            return tuple(_coerced(item, args[0], where) for item in items)
    if hint is float and isinstance(value, int | float) and not isinstance(value, bool) and np.isfinite(value):
        return float(value)
    if hint in (int, bool, str) and type(value) is hint:
        return value
    expected = " | ".join(map(repr, args)) if origin is Literal else getattr(hint, "__name__", str(hint))
    raise ConfigError(f"the value {value!r} does not fit", where=where, fix=f"Give {expected}.")
