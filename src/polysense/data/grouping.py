"""Batches of samples of about one length, so that little is padded, without giving up any step's independence."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

from polysense.data.order import EpochOrder
from polysense.data.rng import Key, keyed_rng

WINDOW = 16  # steps whose samples are sorted together


class LengthGroups:
    """An `EpochOrder` in batches: the samples of some steps are sorted by length, and cut into as many batches.

    Which of these batches comes first is drawn anew for every window; windows end where an epoch's steps end, so each
    epoch still has the samples it would have had.

    Args:
        order: which samples there are, in which order.
        length: (epoch, index of the sample) to its length; called once per window for each of its samples.
        key: what the order of batches is keyed by.
    """

    def __init__(self, order: EpochOrder, length: Callable[[int, int], int], key: tuple[Key, ...]) -> None:
        self.order, self.length, self.key = order, length, key
        # prefetching threads are at work on neighbouring steps
        self._window = lru_cache(maxsize=4)(self._sorted)

    def batch(self, index: int, rank: int, world: int, size: int) -> list[tuple[int, int]]:
        """(epoch, sample index) of the samples of one step of one process; ranks side by side are one larger batch."""
        whole = size * world
        steps = -(-self.order.epoch_length // whole)
        lap, inner = divmod(index, steps)
        number, place = divmod(inner, WINDOW)
        count = min(WINDOW, steps - number * WINDOW)
        start = lap * steps + number * WINDOW
        chosen = int(keyed_rng("window", *self.key, start).permutation(count)[place])
        first = chosen * whole + rank * size
        return list(self._window(start * whole, count * whole)[first : first + size])

    def _sorted(self, start: int, count: int) -> tuple[tuple[int, int], ...]:
        draws = [self.order.locate(position) for position in range(start, start + count)]
        return tuple(sorted(draws, key=lambda draw: self.length(*draw)))
