"""An evaluator that embeds words: every word is a direction, and a sample is the words of its meaning."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from polysense.data import SampleDataset
from polysense.recipes.evaluation import EvaluationSettings, Evaluator


class Words(Evaluator):
    """Embeds texts by their words, and samples by the words of `semantics`; unit vectors."""

    def __init__(
        self, model: Any = None, processor: Any = None, settings: EvaluationSettings | None = None, *,
        hints: Mapping[str, tuple[str, float]] | None = None,
    ) -> None:  # fmt: skip
        self.model, self.processor, self.settings = model, processor, settings or EvaluationSettings()
        self.axes: dict[str, int] = {}
        self.hints = hints or {}  # word to the word that it leans to, and how much

    def encode_text(self, texts: Sequence[str]) -> Tensor:
        vectors = torch.zeros(len(texts), 64)
        for row, text in enumerate(texts):
            for word in text.split():
                known, weight = self.hints.get(word, (word, 1.0))
                vectors[row, self.axes.setdefault(known, len(self.axes))] += weight
        return torch.nn.functional.normalize(vectors, dim=-1)

    def embed(self, dataset: SampleDataset, modality: str) -> Tensor:
        return self.encode_text([dataset[i].extra["semantics"][modality] for i in range(len(dataset))])
