"""Decoded files kept in memory: from the second epoch on, a sample is only augmented."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from polysense.processing.base import Facts, ModalityProcessor


class CachedFeatures:
    """Features of one set of processors, with what `load` returned for files kept until `limit` bytes are full.

    Nothing is evicted: every epoch asks for each sample once, and the one least recently used is wanted next.

    Args:
        part: the processor of a sense, such as `UniAlignProcessor.part`; asked once per sense.
        limit: bytes of decoded samples that are kept.
    """

    def __init__(self, part: Callable[[str], ModalityProcessor], limit: int) -> None:
        self._part, self._left = part, limit
        self._parts: dict[str, ModalityProcessor] = {}
        self._kept: dict[tuple[str, str, str], np.ndarray] = {}
        self._lock = threading.Lock()

    def __call__(
        self,
        modality: str,
        sources: Sequence[Any],
        *,
        facts: Sequence[Facts | None] | None = None,
        rngs: Sequence[np.random.Generator | None] | None = None,
    ) -> dict[str, Tensor]:
        """As `ModalityProcessor.__call__`, to the last bit. Raises: see there."""
        if modality not in self._parts:
            self._parts[modality] = self._part(modality)
        part = self._parts[modality]
        known = [None] * len(sources) if facts is None else facts
        drawn = [None] * len(sources) if rngs is None else rngs
        each = zip(sources, known, drawn, strict=True)
        return part.batch([part.features(self._load(part, source, fact), rng) for source, fact, rng in each])

    def _load(self, part: ModalityProcessor, source: Any, facts: Facts | None) -> Any:
        if not isinstance(source, str | Path):
            return part.load(source, facts)
        key = (part.modality, str(source), str(facts))
        if (kept := self._kept.get(key)) is not None:
            return kept
        raw = part.load(source, facts)
        if isinstance(raw, np.ndarray):
            with self._lock:
                if key not in self._kept and raw.nbytes <= self._left:
                    raw.flags.writeable = False  # features must not change what the next epoch reads
                    self._kept[key] = raw
                    self._left -= raw.nbytes
        return raw
