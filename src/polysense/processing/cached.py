"""What was made of a file once, kept in memory: from the second epoch on, a sample is only augmented."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
from torch import Tensor

from polysense.processing.base import Facts, ModalityProcessor

T = TypeVar("T")


class Memory(Generic[T]):
    """Keeps what was made of files until `limit` bytes are full; several threads may use it.

    Nothing is evicted: every epoch asks for each sample once, and the one least recently used is wanted next.

    Args:
        limit: bytes that are kept.
        size: bytes of one value; `None` for one that is not to be kept.
    """

    def __init__(self, limit: int, size: Callable[[T], int | None]) -> None:
        self._left, self._size = limit, size
        self._kept: dict[tuple[str, str, str], T] = {}
        self._lock = threading.Lock()

    def get(self, modality: str, source: Any, facts: Facts | None, make: Callable[[], T]) -> T:
        """What `make` makes of a source, or made of it before; sources that are no files are not remembered."""
        if not isinstance(source, str | Path):
            return make()
        key = (modality, str(source), str(facts))
        if (kept := self._kept.get(key)) is not None:
            return kept
        made = make()
        size = self._size(made)
        with self._lock:
            if key not in self._kept and size is not None and size <= self._left:
                self._kept[key] = made
                self._left -= size
        return made


class CachedFeatures:
    """Features of one set of processors, which decode a file once and keep it in memory.

    Args:
        part: the processor of a sense, such as `UniAlignProcessor.part`; asked once per sense.
        limit: bytes of decoded samples that are kept.
    """

    def __init__(self, part: Callable[[str], ModalityProcessor], limit: int) -> None:
        self._part = part
        self._parts: dict[str, ModalityProcessor] = {}
        self._memory: Memory[Any] = Memory(limit, lambda raw: raw.nbytes if isinstance(raw, np.ndarray) else None)

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
        return part(sources, facts=facts, rngs=rngs, load=partial(self._load, part))

    def _load(self, part: ModalityProcessor, source: Any, facts: Facts | None) -> Any:
        def decode() -> Any:
            raw = part.load(source, facts)
            if isinstance(raw, np.ndarray) and isinstance(source, str | Path):
                raw.flags.writeable = False  # features must not change what the next epoch reads
            return raw

        return self._memory.get(part.modality, source, facts, decode)
