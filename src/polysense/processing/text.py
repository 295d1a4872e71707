"""Text: a Hugging Face tokenizer in the shape that the registry of processors asks for."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Int, Shaped
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from polysense.errors import MediaError
from polysense.processing import media
from polysense.processing.base import COMPONENT, Facts, ModalityProcessor, pad_stack

MAX_TEXT_BYTES = 1 << 20  # bytes of one text file


@dataclass(frozen=True, kw_only=True)
class TextProcessor(ModalityProcessor):
    """Token ids of one text; the tokenizer is a component that travels beside the options.

    Attributes:
        tokenizer: any Hugging Face tokenizer with a padding token.
        max_length: tokens kept, begin and end tokens included (CLIP: 77).
    """

    kind: ClassVar[str] = "text"
    fact_names: ClassVar[tuple[str, ...] | None] = ()
    time_axis: ClassVar[bool] = True

    channels: int = 1
    tokenizer: PreTrainedTokenizerBase = field(metadata=COMPONENT)
    max_length: int = 77

    def __post_init__(self) -> None:
        super().__post_init__()
        self._require(self.max_length >= 1, "max_length", "at least 1")
        self._require(self.tokenizer.pad_token_id is not None, "tokenizer", "one with a padding token")

    def load(self, source: Any, facts: Facts | None = None) -> str:
        """The text itself; see `read_text`."""
        return read_text(source)

    def features(self, raw: str, rng: np.random.Generator | None = None) -> Int[Tensor, " length"]:
        """Token ids, cut at `max_length`; text has no augmentation."""
        ids = self.tokenizer(raw, truncation=True, max_length=self.max_length)["input_ids"]
        return torch.tensor(ids, dtype=torch.long)

    def batch(self, samples: Sequence[Shaped[Tensor, " ..."]]) -> dict[str, Tensor]:
        """`input_ids` padded with the tokenizer's token, and always an `attention_mask` of integers, as in HF."""
        ids, mask = pad_stack(samples, time_axis=True, where=self.modality, value=self.tokenizer.pad_token_id)
        mask = torch.ones_like(ids, dtype=torch.bool) if mask is None else mask
        return {self.spec.values_key: ids, self.spec.mask_key: mask.long()}


def read_text(source: Any) -> str:
    """A text: a `str` is the text itself, a `Path`, bytes or a binary file is read as UTF-8.

    Raises:
        MediaError: empty, too long, or not UTF-8, as what a terminal made of broken bytes.
    """
    name = f"text {source[:40]!r}" if isinstance(source, str) else media.source_name(source)
    if not isinstance(source, str | os.PathLike | bytes) and not hasattr(source, "read"):
        raise MediaError(f"is a {type(source).__name__}, not text", where=name, fix="Give a string or a Path.")
    text = source if isinstance(source, str) else _read(source)
    if not text.strip():
        raise MediaError("is empty text", where=name, fix="Give at least one word.")
    if any(0xD800 <= ord(letter) <= 0xDFFF for letter in text):
        raise MediaError("holds halves of characters (surrogates)", where=name, fix="Give it in UTF-8.")
    return text


def _read(source: Any) -> str:
    with media.open_media(source, ("text", "unknown data")) as opened:
        if opened.size > MAX_TEXT_BYTES:
            raise MediaError(f"is a text of {opened.size} bytes, more than the limit of {MAX_TEXT_BYTES}",
                             where=opened.name, fix="Cut it into shorter texts.")  # fmt: skip
        with media.decoding(opened.name, "UTF-8 text"):
            return str(opened.file.read(), "utf-8")
