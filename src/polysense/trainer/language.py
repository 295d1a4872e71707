"""Pre-training a small language model on texts that are written as they are needed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers import PreTrainedModel

from polysense.modality import JsonValue
from polysense.trainer.distributed import gather_with_grad
from polysense.trainer.objective import zero_touch

IGNORED = -100  # labels that no loss is computed for, as everywhere in transformers


@dataclass(frozen=True, kw_only=True)
class TextBatch:
    """Texts as tokens.

    Attributes:
        ids: names of the texts.
        input_ids: padded on the right.
        attention_mask: 1 where a token is real.
        weight: factor of its loss.
    """

    ids: tuple[str, ...]
    input_ids: Int[Tensor, "texts tokens"]
    attention_mask: Int[Tensor, "texts tokens"]
    weight: float = 1.0

    def __len__(self) -> int:
        return len(self.ids)

    def to(self, target: torch.device) -> TextBatch:
        return replace(self, input_ids=self.input_ids.to(target), attention_mask=self.attention_mask.to(target))


class TextFeed:
    """An endless corpus of numbered texts; every one is seen once.

    Args:
        write: number to text, a pure function.
        tokenizer: has a padding token; adds to a text what it adds.
        batch_size: texts per process and micro-batch.
        key: what `write` depends on, so that a resumed run is warned of another corpus.
    """

    slots: tuple[str, ...] = ("text",)
    skipped: Mapping[str, int] = {}

    def __init__(self, write: Callable[[int], str], tokenizer: Any, batch_size: int, key: str) -> None:
        self.write, self.tokenizer, self.batch_size, self.key = write, tokenizer, batch_size, key

    @property
    def signature(self) -> dict[str, JsonValue]:
        return {"corpus": self.key, "batch_size": self.batch_size}

    def build(self, index: int, rank: int = 0, world: int = 1) -> tuple[TextBatch]:
        """The texts of a micro-step; ranks side by side are one process with the larger batch."""
        start = (index * world + rank) * self.batch_size
        numbers = range(start, start + self.batch_size)
        rows = [list(self.tokenizer(self.write(number))["input_ids"]) for number in numbers]
        ids = torch.full((len(rows), max(map(len, rows))), self.tokenizer.pad_token_id)
        mask = torch.zeros_like(ids)
        for place, row in enumerate(rows):
            ids[place, : len(row)], mask[place, : len(row)] = torch.tensor(row), 1
        names = tuple(f"text {number}" for number in numbers)
        return (TextBatch(ids=names, input_ids=ids, attention_mask=mask),)

    def account(self, batches: Sequence[Any]) -> None:
        """Texts are never skipped."""


def fair_divisor(labels: Int[Tensor, "samples tokens"]) -> Float[Tensor, ""]:
    """What the sum over labelled tokens is divided by, so that the tokens of all processes count alike.

    The loop weighs each process by its number of samples, whose numbers of labels differ: with this divisor the
    weighted mean over processes is the mean over all their labels.
    """
    everyone = gather_with_grad((labels[:, 1:] != IGNORED).sum(dim=1))
    return everyone.sum() * len(labels) / len(everyone)


class LanguageObjective:
    """Next-token cross entropy of all tokens of all texts, every token counting alike.

    Args:
        model: a causal language model, all of which trains.
    """

    modalities = ("text",)
    weights: Mapping[str, float] = {"next_token": 1.0}

    def __init__(self, model: PreTrainedModel) -> None:
        self.module = model

    def losses(self, modality: str, batch: Any) -> dict[str, Tensor]:
        labels = batch.input_ids.masked_fill(batch.attention_mask == 0, IGNORED)
        out = self.module(
            input_ids=batch.input_ids, attention_mask=batch.attention_mask, labels=labels, use_cache=False,
            num_items_in_batch=fair_divisor(labels),
        )  # fmt: skip
        return {"next_token": out.loss}

    def dummy(self, modality: str) -> Tensor:
        return zero_touch(self.module)
