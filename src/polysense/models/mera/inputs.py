"""The inputs of MERA by sense: which keyword arguments are features, and of what."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, cast

import torch
from torch import Tensor
from transformers.utils import TransformersKwargs

from polysense.errors import ConfigError, FeatureShapeError, UnknownModalityError
from polysense.models.base import unknown_input
from polysense.models.mera.configuration_mera import MeraConfig
from polysense.protocols import check_not_empty

logger = logging.getLogger(__name__)

# what a language model takes beyond the named inputs; everything else must be of a sense
_LANGUAGE_MODEL = frozenset(TransformersKwargs.__optional_keys__) | {"use_cache", "cache_position", "logits_to_keep"}

# what `generate` was given for stop strings, and hands on to `forward` all the same
_GENERATION = ("tokenizer", "assistant_tokenizer")

IGNORED = -100
"""Label that no loss is computed for, as everywhere in transformers."""

# options of transformers' generate that verify tokens which something cheaper has guessed
_GUESSING = ("assistant_model", "prompt_lookup_num_tokens", "assistant_early_exit")

_AS_PROCESSED = "Call the model with what MeraProcessor returned."


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
        ConfigError: a name that is no input.
        FeatureShapeError: features, tokens or a mask that are none by their shapes.
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
            if not isinstance(value, Tensor | None):
                raise FeatureShapeError(
                    f"this is a {type(value).__name__}, not a tensor", where=key, fix=_AS_PROCESSED
                )
            if value is not None:
                given[name] = replace(given.get(name, SenseInputs()), **{part: value})
        elif strict and key in _GENERATION:
            continue
        elif key in _LANGUAGE_MODEL or (not strict and not isinstance(value, Tensor)):
            rest[key] = value
        else:
            raise unknown_input(key, places, config.modalities, where="MERA's inputs")
    for name, inputs in given.items():
        if (inputs.values is None) == (inputs.tokens is None):
            raise UnknownModalityError(f"{name}_mask", places, where="MERA's inputs (values or tokens, one of them)")
        _check_shapes(name, inputs)
    return given, rest


def check_batch(ids: Tensor | None, vectors: Tensor | None = None, mask: Any = None) -> None:
    """Refuse token ids, or word vectors, that are no batch of texts, and an attention mask that is not theirs.

    Raises:
        ConfigError: naming the input and its shape.
    """
    if ids is not None and (ids.ndim != 2 or not ids.numel() or ids.dtype not in (torch.int64, torch.int32)):
        raise ConfigError(f"the ids are {ids.dtype} of shape {tuple(ids.shape)}, not integers of (batch, tokens)",
                          where="input_ids", fix=_AS_PROCESSED)  # fmt: skip
    texts = vectors if ids is None else ids
    # one of four dimensions is ready for attention, and says nothing of texts
    if texts is not None and isinstance(mask, Tensor) and mask.ndim != 4 and mask.shape != texts.shape[:2]:
        raise ConfigError(f"the mask has shape {tuple(mask.shape)}, the texts {tuple(texts.shape[:2])}",
                          where="attention_mask", fix="Give every token 1, or 0 where it is padding.")  # fmt: skip


def prompt_mask(ids: Tensor, mask: Any, own: Any, options: Mapping[str, Any]) -> Any:
    """The attention mask of prompts to be continued: as given, or all but the padding that a row begins with.

    Padding further on is a part of the prompt, as where a tokenizer pads with the token that ends a turn.

    Args:
        own: the generation config.
        options: of `generate`, which come before it.

    Raises:
        ConfigError: prompts that end with padding, or several prompts and no padding token.
    """
    pad = options.get("pad_token_id", own.pad_token_id)
    ends = options.get("eos_token_id", own.eos_token_id)
    if mask is None and pad is not None:
        mask = (ids != pad).cumsum(dim=1).clamp(max=1)
        real = mask[:, -1] if pad in _listed(ends) else ids[:, -1] != pad
    else:
        mask = torch.ones_like(ids) if mask is None else mask
        real = mask[:, -1]
    if not bool(real.all()):
        raise ConfigError("the prompts are padded on the right", where="generate",
                          fix="Process them with padding_side='left'.")  # fmt: skip
    if pad is None and len(ids) > 1:
        raise ConfigError("there is no padding token to fill up finished answers with", where="generate",
                          fix="Set generation_config.pad_token_id, or give pad_token_id.")  # fmt: skip
    return mask


def check_decoding(own: Any, options: Mapping[str, Any]) -> None:
    """Refuse decoding that hands several guessed tokens to the model beside the prompt, whose features it would lose.

    Args:
        own, options: see `prompt_mask`.

    Raises:
        ConfigError: naming the option.
    """
    for name in _GUESSING:
        if options.get(name, getattr(own, name, None)) is not None:
            raise ConfigError(f"prompts with features cannot be continued with {name}", where="generate",
                              fix="Leave it out.")  # fmt: skip


def _listed(ends: Any) -> Sequence[int]:
    return ends if isinstance(ends, list | tuple) else [ends]


def check_labels(labels: Tensor, texts: Tensor | None, vocabulary: int) -> None:
    """Refuse labels that are not those of token ids or word vectors, or that a vocabulary of that size lacks.

    Raises:
        ConfigError: naming their shape, or the first wrong one and its sample.
    """
    fix = "Give every token the id that is to be learned, or -100."
    if texts is not None and (labels.shape != texts.shape[:2] or labels.dtype != torch.int64):
        raise ConfigError(
            f"the labels are {labels.dtype} of shape {tuple(labels.shape)}, not int64 of {tuple(texts.shape[:2])}",
            where="labels", fix=fix,
        )  # fmt: skip
    check_vocabulary(labels.masked_fill(labels == IGNORED, 0), vocabulary, where="labels", fix=fix)


def check_vocabulary(ids: Tensor, vocabulary: int, *, where: str, fix: str) -> None:
    """Refuse token ids that a vocabulary of that size does not have.

    Raises:
        ConfigError: naming the first one and its sample.
    """
    strange = (ids < 0) | (ids >= vocabulary)
    if bool(strange.any()):
        sample = int(strange.nonzero()[0, 0])
        raise ConfigError(f"the id {int(ids[strange][0])} is none of the {vocabulary} of the vocabulary",
                          where=f"{where} of sample {sample}", fix=fix)  # fmt: skip


@contextmanager
def within_positions(config: MeraConfig, mask: Tensor | None, tokens: int) -> Iterator[None]:
    """Tell of sequences that are longer than the language model was made for, while it runs on them.

    Positions that are computed go on, so that is warned of, once; a table of positions ends.

    Args:
        mask: of all tokens so far, or `None` where all are real.
        tokens: so far.

    Raises:
        ConfigError: the language model has no such position.
    """
    most: float = getattr(config.llm, "max_position_embeddings", None) or math.inf
    beyond = tokens > most
    if beyond and isinstance(mask, Tensor) and mask.ndim == 2:
        beyond = int(mask.sum(dim=1).max()) > most
    if beyond:
        _warn_of_length(int(most))
    try:
        yield
    except IndexError as error:
        if not beyond:
            raise
        raise ConfigError(
            f"{tokens} tokens are more than the {most} positions of the language model", where="MERA's inputs",
            fix="Give shorter texts or fewer files, or encode them to fewer tokens.",
        ) from error  # fmt: skip


@cache
def _warn_of_length(most: int) -> None:
    logger.warning("a sequence is longer than the %d tokens that the language model was made for: shorten it, or do "
                   "not rely on what follows", most)  # fmt: skip


def _check_shapes(name: str, inputs: SenseInputs) -> None:
    tokens, mask = inputs.tokens, inputs.mask
    if tokens is not None and tokens.ndim != 4:
        raise FeatureShapeError(f"the tokens have shape {tuple(tokens.shape)}, not (items, time, space, dim)",
                                where=f"{name}_tokens", fix="Give them as encode returned them.")  # fmt: skip
    items = cast(Tensor, inputs.values) if tokens is None else tokens
    check_not_empty(items, where=name)
    wanted = items.shape[: 1 if tokens is None else 2]
    if mask is not None and (mask.ndim != 2 or mask.shape[: len(wanted)] != wanted or mask.is_floating_point()):
        raise FeatureShapeError(
            f"the mask is {mask.dtype} of shape {tuple(mask.shape)}, not bool of (items, time) of features of shape "
            f"{tuple(items.shape)}", where=f"{name}_mask", fix=_AS_PROCESSED,
        )  # fmt: skip
