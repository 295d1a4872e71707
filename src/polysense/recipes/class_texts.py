"""Texts and classes of a UniAlign stage, by the model's own text path; with gradients while that path trains."""

from __future__ import annotations

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor

from polysense.metrics import class_embeddings
from polysense.models.unialign import UniAlignModel, UniAlignProcessor
from polysense.trainer.unialign import ClassTable, TextEncoder

_BARE = ("{}",)


def trains_text(model: UniAlignModel) -> bool:
    """Whether text goes through experts of its own (`unified_text`) and these train."""
    parts = model.tokenizers["text"].parameters() if model.config.unified_text else ()
    return any(parameter.requires_grad for parameter in parts)


def text_encoder(model: UniAlignModel, processor: UniAlignProcessor) -> TextEncoder:
    """Texts to unit vectors; gradients reach what trains of the text path."""

    def encode(texts: Sequence[str]) -> Float[Tensor, "texts embed"]:
        features = processor.features("text", list(texts))
        return model.embed("text", {name: tensor.to(model.device) for name, tensor in features.items()})

    return encode


def class_table(
    names: Sequence[str], modality: str, processor: UniAlignProcessor, encode: TextEncoder
) -> ClassTable:  # fmt: skip
    """Classes of a sense by its templates."""
    templates = processor.templates.get(modality, _BARE)
    return ClassTable(tuple(names), class_embeddings(names, templates, encode).clone())
