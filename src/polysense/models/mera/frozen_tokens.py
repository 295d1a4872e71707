"""Tokens of frozen encoders in place of features: what no training step changes is computed once per sample."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
from jaxtyping import Float
from torch import Tensor

from polysense.modality import JsonValue
from polysense.models.base import model_key
from polysense.models.mera.token_store import FrozenTokenStore
from polysense.processing import Memory
from polysense.processing.base import pad_stack
from polysense.storage import digest

Facts = Mapping[str, JsonValue]


class FrozenTokens:
    """A `polysense.data.FeatureProcessor` that gives `{sense}_tokens`, as `MeraForConditionalGeneration.encode` does.

    Every sample is encoded by itself, so that its tokens depend on nothing else, and kept until `limit` bytes are
    full.

    Args:
        model: a `MeraForConditionalGeneration`.
        processor: its processor.
        limit: bytes of tokens that are kept in memory.
        store: keeps them on disk too, for other runs.
    """

    def __init__(self, model: Any, processor: Any, limit: int, store: FrozenTokenStore | None = None) -> None:
        self.model, self.processor, self.store = model, processor, store
        self._encodings: dict[str, str] = {}
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
        tokens, mask = pad_stack(rows, time_axis=True, where=modality)
        return {f"{modality}_tokens": tokens} | ({} if mask is None else {f"{modality}_mask": mask})

    def _row(
        self, modality: str, source: Any, facts: Facts, rng: np.random.Generator | None
    ) -> Float[Tensor, "time space dim"]:
        encode = partial(self._encoded, modality, source, facts, rng)
        if rng is not None:
            return encode()
        if self.store is not None and isinstance(source, str | Path):
            encode = partial(self.store.get, self._encoding(modality), source, facts, encode)
        return self._memory.get(modality, source, facts, encode)

    def _encoding(self, modality: str) -> str:
        """Digest of all that tokens of a sense depend on beside the sample: it is frozen, so once will do."""
        if modality not in self._encodings:
            sense = self.model.config.senses[modality]
            told = {
                **model_key(self.model.model.encoders[sense.encoder]),
                "spec": sense.spec, "layer": sense.layer, "pool": sense.pool,
                "processor": self.processor.part(modality).to_dict(),
            }  # fmt: skip
            self._encodings[modality] = digest(json.dumps(told, sort_keys=True, default=str).encode())
        return self._encodings[modality]

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
