"""The inputs of MERA by sense: which keyword arguments are features, and of what."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor
from transformers.utils import TransformersKwargs

from polysense.errors import UnknownModalityError
from polysense.models.mera.configuration_mera import MeraConfig

# what a language model takes beyond the named inputs; everything else must be of a sense
_LANGUAGE_MODEL = frozenset(TransformersKwargs.__optional_keys__) | {"use_cache", "cache_position", "logits_to_keep"}


@dataclass(frozen=True, kw_only=True)
class SenseInputs:
    """What was given of one sense; its items are those of the batch in row-major order.

    Attributes:
        values: features as the processor makes them, `items ...`.
        tokens: instead of `values`, frozen tokens after layer choice and pooling, `items time space dim`.
        mask: `items time`, true where a time step is real; all of them if `None`.
    """

    values: Tensor | None = None
    tokens: Tensor | None = None
    mask: Tensor | None = None


def split_inputs(
    config: MeraConfig, arguments: Mapping[str, Any], *, strict: bool = True
) -> tuple[dict[str, SenseInputs], dict[str, Any]]:
    """Inputs by sense, and the arguments that are the language model's.

    Args:
        arguments: `pixel_values`, `{sense}_values`, `{sense}_tokens`, `{sense}_mask`, and the language model's own.
        strict: refuse every other name. Without it only tensors are refused, as `generate` has many options, each of
            which transformers checks.

    Raises:
        UnknownModalityError: features of a sense that this model has not learned, or a mask without features.
    """
    if _LANGUAGE_MODEL.issuperset(arguments):
        return {}, dict(arguments)  # every step of a generation but the first
    places: dict[str, tuple[str, str]] = {}
    for name, sense in config.senses.items():
        modality = sense.modality
        places[modality.values_key] = (name, "values")
        places[f"{name}_tokens"] = (name, "tokens")
        places[modality.mask_key] = (name, "mask")
    given: dict[str, SenseInputs] = {}
    rest = {}
    for key, value in arguments.items():
        if key in places:
            name, part = places[key]
            if value is not None:
                given[name] = replace(given.get(name, SenseInputs()), **{part: value})
        elif key in _LANGUAGE_MODEL or (not strict and not isinstance(value, Tensor)):
            rest[key] = value
        else:
            raise UnknownModalityError(key, places, where="MERA's inputs")
    for name, inputs in given.items():
        if (inputs.values is None) == (inputs.tokens is None):
            raise UnknownModalityError(f"{name}_mask", places, where="MERA's inputs (values or tokens, one of them)")
    return given, rest
