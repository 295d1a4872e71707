"""Tokens of frozen encoders in place of features: what no training step changes is computed once per sample."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, cast

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from polysense.modality import JsonValue
from polysense.processing import Memory

Facts = Mapping[str, JsonValue]


class FrozenTokens:
    """A `polysense.data.FeatureProcessor` that gives `{sense}_tokens`, as `MeraForConditionalGeneration.encode` does.

    Every sample is encoded by itself, so that its tokens depend on nothing else, and kept until `limit` bytes are
    full.

    Args:
        model: a `MeraForConditionalGeneration`.
        processor: its processor.
        limit: bytes of tokens that are kept.
    """

    def __init__(self, model: Any, processor: Any, limit: int) -> None:
        self.model, self.processor = model, processor
        self._memory: Memory[Tensor] = Memory(limit, lambda row: row.numel() * row.element_size())

    def __call__(
        self,
        modality: str,
        sources: Sequence[Any],
        *,
        facts: Sequence[Facts] | None = None,
        rngs: Sequence[np.random.Generator] | None = None,
    ) -> dict[str, Tensor]:
        """`{modality}_tokens` (`batch time space dim`) and, where lengths differ, `{modality}_mask` (`batch time`).

        Samples that are augmented (`rngs`) are not kept.

        Raises:
            MediaError: a source cannot be used; the message names it.
            UnknownModalityError: the model or the processor lacks the sense.
        """
        known: Sequence[Facts] = [{}] * len(sources) if facts is None else facts
        drawn: Sequence[np.random.Generator | None] = [None] * len(sources) if rngs is None else rngs
        rows = [self._row(modality, *each) for each in zip(sources, known, drawn, strict=True)]
        return _stacked(modality, rows)

    def _row(
        self, modality: str, source: Any, facts: Facts, rng: np.random.Generator | None
    ) -> Float[Tensor, "time space dim"]:
        encode = partial(self._encoded, modality, source, facts, rng)
        return encode() if rng is not None else self._memory.get(modality, source, facts, encode)

    def _encoded(
        self, modality: str, source: Any, facts: Facts, rng: np.random.Generator | None
    ) -> Float[Tensor, "time space dim"]:
        rngs = None if rng is None else [rng]
        part = self.processor.part(modality)
        features = self.processor.features(modality, [source], facts=[facts], rngs=rngs)
        device = self.model.device
        mask = features.get(part.spec.mask_key)
        mask = None if mask is None else mask.to(device)
        encoded = self.model.encode(modality, features[part.spec.values_key].to(device), mask)
        real = encoded.tokens[0] if encoded.mask is None else encoded.tokens[0][encoded.mask[0]]
        return cast(Tensor, real.to("cpu", copy=True))


def _stacked(modality: str, rows: Sequence[Float[Tensor, "_ space dim"]]) -> dict[str, Tensor]:
    """Rows filled up with zeros to the longest."""
    lengths = torch.tensor([len(row) for row in rows])
    longest = int(lengths.max())
    tokens = torch.stack([torch.cat([row, row.new_zeros(longest - len(row), *row.shape[1:])]) for row in rows])
    if bool((lengths == longest).all()):
        return {f"{modality}_tokens": tokens}
    return {f"{modality}_tokens": tokens, f"{modality}_mask": torch.arange(longest) < lengths.unsqueeze(1)}
