"""A language model from a folder, the Hub or at hand, taken apart for MERA."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from torch import nn
from transformers import (
    MODEL_MAPPING,
    AutoModelForCausalLM,
    GenerationConfig,
    PreTrainedModel,
)

from polysense.errors import ConfigError
from polysense.models.base import Source, load_foreign
from polysense.models.mera.configuration_mera import MeraSense

# a head that does more than one matrix product would be lost: only the matrix is taken over
_HEAD_SETTINGS = ("final_logit_softcapping", "logit_scale", "logits_scaling", "output_multiplier_scale")


@dataclass(frozen=True)
class LanguageModelParts:
    """A language model taken apart.

    Attributes:
        base: without its head, as `AutoModel` builds it.
        head: from hidden states to logits.
        generation_config: its ends, paddings and sampling.
    """

    base: PreTrainedModel
    head: nn.Linear
    generation_config: GenerationConfig


def load_language_model(source: Source) -> LanguageModelParts:
    """A causal language model as parts; one at hand is copied, one from a folder or the Hub is not.

    Raises:
        UnsafeFileError: a pickle, code or an escaping path, before anything is read.
        CheckpointError: weights are missing.
        ConfigError: its head is more than one matrix, or its body is not what `AutoModel` builds.
    """
    llm = copy.deepcopy(source) if isinstance(source, PreTrainedModel) else load_foreign(AutoModelForCausalLM, source)
    return split_language_model(llm)


def split_language_model(llm: PreTrainedModel) -> LanguageModelParts:
    """The parts of a model that is the caller's to give away; for errors see `load_language_model`."""
    config, base, head, kind = llm.config, llm.base_model, llm.get_output_embeddings(), type(llm).__name__
    if more := [name for name in _HEAD_SETTINGS if getattr(config, name, None) not in (None, 1, 1.0)]:
        raise ConfigError(f"the head of a {kind} does more than one matrix product ({', '.join(more)})",
                          fix="Use a model whose logits are its last hidden states times a matrix.")  # fmt: skip
    if not isinstance(head, nn.Linear) or getattr(head, "bias", None) is not None:
        raise ConfigError(f"the head of a {kind} is no plain matrix", fix="Use a causal language model such as Llama.")
    if type(config) not in MODEL_MAPPING or not isinstance(base, MODEL_MAPPING[type(config)]) or base is llm:
        raise ConfigError(f"the body of a {kind} is not what AutoModel builds from its config",
                          fix="Use a causal language model such as Llama.")  # fmt: skip
    return LanguageModelParts(base, head, llm.generation_config or GenerationConfig.from_model_config(config))


def placeholder_id(token: str, senses: Iterable[MeraSense], vocabulary: int, tokenizer: Any = None) -> int:
    """Id of a new placeholder: the tokenizer's, or the next that neither it (else the vocabulary) nor a sense has."""
    if tokenizer is not None:
        known = tokenizer.get_vocab().get(token)
        if known is not None:
            return int(known)
        vocabulary = len(tokenizer)
    return max([vocabulary, *(sense.token_id + 1 for sense in senses if sense.token_id >= vocabulary)])
