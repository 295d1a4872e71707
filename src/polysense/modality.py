"""The open registry of modalities: the only place where the library lists them.

A `Modality` is a declarative, JSON-able spec. It travels inside checkpoints, so weights load anywhere; the code that
turns a raw file into features (its *processor*) does not travel and must be registered in the process that uses it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, TypeVar

from torch import nn

from polysense.errors import ConfigError, UnregisteredModalityError
from polysense.safety import check_keys

JsonValue = Any  # str | int | float | bool | None | list | dict, as json.loads gives it

_NAME = re.compile(r"[a-z][a-z0-9_]{0,63}")
_TAKEN = nn.ModuleDict()  # its own attributes (`values`, `train` ...) cannot be keys of the parts of a sense
_OTHERS_KEYS = {"pixel", "attention"}  # `pixel_values` and `attention_mask` belong to image and text


@dataclass(frozen=True, kw_only=True)
class Modality:
    """What a model has to know of one sense, without knowing its files.

    Attributes:
        name: identifier; features of the sense are called `{name}_values` and its embeddings `embeddings[name]`.
        kind: tokenizer kind: "grid", "frames", "spectrogram", "points", "text", or one registered by the user.
        channels: values per pixel, per spectrogram cell or per point.
        group: name of the expert group that serves it; empty means a group of its own.
        tokenizer: options of the tokenizer (see `polysense.nn.patch_embed`), for example `{"patch_size": 8}`.
        processor: options of the processor (see `polysense.processing`), for example `{"mean": 0.04}`.

    Raises:
        ConfigError: a name that is no identifier in lower case or is taken by the library, or no channels.
    """

    name: str
    kind: str
    channels: int = 3
    group: str = ""
    tokenizer: Mapping[str, JsonValue] = field(default_factory=dict)
    processor: Mapping[str, JsonValue] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name) or (self.group and not _NAME.fullmatch(self.group)):
            raise ConfigError(
                f"{self.name!r} (group {self.group!r}) cannot name a modality",
                fix="Use lower-case letters, digits and underscores, beginning with a letter.",
            )
        if self.name in _OTHERS_KEYS or hasattr(_TAKEN, self.name) or hasattr(_TAKEN, self.expert_group):
            raise ConfigError(f"the name {self.name!r} (group {self.group!r}) is taken by the library",
                              fix="Choose another name.")  # fmt: skip
        if self.channels < 1:
            raise ConfigError(f"modality {self.name!r} has {self.channels} channels", fix="Give at least one.")

    @property
    def expert_group(self) -> str:
        """Key of the expert group that serves this modality."""
        return self.group or self.name

    @property
    def values_key(self) -> str:
        """Name under which processors return, and models take, this modality's features."""
        return {"image": "pixel_values", "text": "input_ids"}.get(self.name, f"{self.name}_values")

    @property
    def mask_key(self) -> str:
        """Name of the mask that says which time steps (or tokens) are real."""
        return "attention_mask" if self.name == "text" else f"{self.name}_mask"

    def to_dict(self) -> dict[str, JsonValue]:
        return asdict(self)

    @classmethod
    def from_dict(cls, spec: Mapping[str, JsonValue]) -> Modality:
        """Rebuild a spec from a checkpoint; unknown or mistyped keys raise `ConfigError`."""
        known = {f.name: f.type for f in fields(cls)}
        check_keys(spec, [*known], "a modality spec")
        expected = {"name": str, "kind": str, "group": str, "channels": int}
        for key, value in spec.items():
            wanted = expected.get(key, Mapping)
            if not isinstance(value, wanted) or isinstance(value, bool):
                raise ConfigError(f"modality spec key {key!r} has a value of type {type(value).__name__}",
                                  fix=f"Give {wanted.__name__}.")  # fmt: skip
        if missing := sorted({"name", "kind"} - set(spec)):
            raise ConfigError(f"a modality spec lacks {missing}", fix="Give name and kind.")
        return cls(**spec)


Sense = TypeVar("Sense", bound="str | Modality")

_SPECS: dict[str, Modality] = {}
_PROCESSORS: dict[str, type[Any]] = {}


def register_modality(modality: Modality, processor: type[Any]) -> Modality:
    """Make a modality known to every part of the library: processor, encoder, recipes, evaluation, command line.

    Args:
        modality: the declarative spec.
        processor: the `polysense.processing.ModalityProcessor` subclass that turns one raw sample into features.

    Returns:
        The spec, so that the call can be the right-hand side of an assignment.

    Raises:
        ConfigError: the name is taken by a different spec; registering the same again changes nothing.
    """
    known = _SPECS.get(modality.name)
    if known is not None and (known != modality or _PROCESSORS[modality.name] is not processor):
        raise ConfigError(
            f"modality {modality.name!r} is already registered with another spec or processor",
            fix="Choose another name; two senses cannot share one.",
        )
    _SPECS[modality.name], _PROCESSORS[modality.name] = modality, processor
    return modality


def get_modality(name: str) -> Modality:
    """The registered spec of `name`; `UnregisteredModalityError` names the missing call."""
    if name not in _SPECS:
        raise UnregisteredModalityError(name, _SPECS)
    return _SPECS[name]


def listed(modalities: Iterable[Sense]) -> list[Sense]:
    """Several senses as a list; `ConfigError` for a single name, whose letters would pass for names."""
    if isinstance(modalities, str | Modality):
        name = modalities if isinstance(modalities, str) else modalities.name
        raise ConfigError(f"{name!r} is one sense, not a list of them", where="modalities", fix=f"Give [{name!r}].")
    return list(modalities)


def specs_of(modalities: Iterable[str | Modality]) -> list[Modality]:
    """The specs of several senses, registered ones by their names; errors: see `listed` and `get_modality`.

    Raises:
        ConfigError: a sense is named twice.
    """
    specs = [each if isinstance(each, Modality) else get_modality(each) for each in listed(modalities)]
    names = [spec.name for spec in specs]
    if len(set(names)) < len(names):
        raise ConfigError(f"a modality is named twice in {names}", fix="Name each once.")
    return specs


def get_processor_class(name: str) -> type[Any]:
    """The registered processor class of `name`; `UnregisteredModalityError` names the missing call."""
    if name not in _PROCESSORS:
        raise UnregisteredModalityError(name, _SPECS)
    return _PROCESSORS[name]


def registered_modalities() -> tuple[str, ...]:
    """Names registered in this process, in order of registration."""
    return tuple(_SPECS)
