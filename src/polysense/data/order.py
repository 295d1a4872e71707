"""The endless order in which a data set is gone through: epoch after epoch, each its own keyed permutation."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from polysense.data.rng import keyed_rng
from polysense.errors import ConfigError

Indices = NDArray[np.int64]


class EpochOrder:
    """Position in an endless stream to (epoch, index of the sample), without remembering what came before.

    Every epoch visits each sample once. With `per_class`, an epoch takes at most that many samples of each class and
    the next one goes on where it stopped within the class, so that nothing of a large class is left out for good
    (class-balanced down-sampling, UniAlign section 3.3).

    Args:
        length: number of samples.
        key: what the permutations are keyed by beside the epoch, such as (seed, name).
        labels: class of every sample, needed with `per_class`; unlabelled samples form a class of their own.
        per_class: most samples of one class in an epoch; `None` takes all.

    Raises:
        ConfigError: there is no sample, or `per_class` is not positive.
    """

    def __init__(
        self,
        length: int,
        key: tuple[str | int, ...],
        labels: Sequence[str | None] | None = None,
        per_class: int | None = None,
    ) -> None:
        if length < 1 or (per_class is not None and per_class < 1):
            raise ConfigError(
                f"a data set of {length} samples with per_class={per_class} gives no batch",
                where=str(key[-1]),
                fix="Give at least one sample and a positive per_class.",
            )
        self.key, self.per_class = key, per_class
        self._classes = [np.arange(length, dtype=np.int64)] if per_class is None else _members(labels or [])
        takes = [len(members) if per_class is None else min(per_class, len(members)) for members in self._classes]
        self._takes = takes
        self.epoch_length = sum(takes)
        # Batches at an epoch's end reach into the next one, and prefetching threads run ahead of the loop.
        self._epoch = lru_cache(maxsize=4)(self._draw_epoch)

    def locate(self, position: int) -> tuple[int, int]:
        """(epoch, sample index) of a position in the stream; one permutation per epoch is computed and kept."""
        epoch, offset = divmod(position, self.epoch_length)
        return epoch, int(self._epoch(epoch)[offset])

    def _draw_epoch(self, epoch: int) -> Indices:
        parts = [
            members[self._class_window(number, len(members), epoch * take, take)]
            for number, (members, take) in enumerate(zip(self._classes, self._takes, strict=True))
        ]
        if self.per_class is None:
            return parts[0]
        return keyed_rng("epoch", *self.key, epoch).permutation(np.concatenate(parts))

    def _class_window(self, number: int, size: int, start: int, count: int) -> Indices:
        """`count` places from `start` on in the endless concatenation of permutations of one class."""
        first, last = start // size, (start + count - 1) // size
        passes = [keyed_rng("class", *self.key, number, lap).permutation(size) for lap in range(first, last + 1)]
        offset = start - first * size
        return np.concatenate(passes)[offset : offset + count]


def _members(labels: Sequence[str | None]) -> list[Indices]:
    members: dict[str, list[int]] = defaultdict(list)
    for index, label in enumerate(labels):
        members["" if label is None else label].append(index)
    return [np.asarray(members[label], dtype=np.int64) for label in sorted(members)]
