"""Mini-batches that mix modalities and data sets, as a pure function of (seed, step, rank, world).

Every step takes one batch from every *source* (a data set serving one modality), so all modalities meet in each
optimiser step (UniAlign section 3.3). Nothing is carried from one step to the next: any step of any rank can be built
on its own, in any thread, which is what makes resume exact and independent of the place it happens.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol, runtime_checkable

import numpy as np
from torch import Tensor, device

from polysense.data.grouping import LengthGroups
from polysense.data.order import EpochOrder
from polysense.data.rng import keyed_int, sample_rng
from polysense.data.samples import Sample, SampleDataset
from polysense.errors import ConfigError, MediaError, QuotaExceededError
from polysense.modality import JsonValue

logger = logging.getLogger(__name__)

MAX_REPLACEMENTS = 32


@runtime_checkable
class FeatureProcessor(Protocol):
    """Turns raw media of one modality into a batch of features; the recipe hands in the model's processor."""

    def __call__(
        self,
        modality: str,
        sources: Sequence[object],
        *,
        facts: Sequence[Mapping[str, JsonValue]],
        rngs: Sequence[np.random.Generator] | None,
    ) -> Mapping[str, Tensor]:
        """Features such as `{"audio_values": ..., "audio_mask": ...}`; `MediaError` for media that cannot be used.

        `rngs` (one per sample) asks for training augmentation; `None` for the plain, evaluation features.
        """


@dataclass(frozen=True, kw_only=True)
class Source:
    """One data set as it enters the mixture.

    Attributes:
        name: unique in the mixture; draws are keyed by it, so renaming a source changes its order.
        modality: the sense that this source trains.
        dataset: where the samples come from.
        batch_size: samples per process and micro-batch.
        anchors: modalities whose media of the same sample are needed as well, such as `("image",)`.
        repeat: times the data set is gone through in one epoch of the mixture (small sets are repeated).
        per_class: most samples of a class in one pass (large sets are down-sampled, balanced); `None` takes all.
        length: (sample, epoch) to a length, to make batches of samples of about one length; `None`: as they come.
        every: it takes part in one of so many micro-steps; a data set too small for a sample in each.
        weight: factor of its batches' loss.

    Raises:
        ConfigError: a number that is not positive, or the modality itself among the anchors.
    """

    name: str
    modality: str
    dataset: SampleDataset
    batch_size: int
    anchors: tuple[str, ...] = ()
    repeat: int = 1
    per_class: int | None = None
    length: Callable[[Sample, int], int] | None = None
    every: int = 1
    weight: float = 1.0

    def __post_init__(self) -> None:
        if min(self.batch_size, self.repeat, self.every) < 1 or self.weight <= 0 or self.modality in self.anchors:
            raise ConfigError(
                f"batch_size {self.batch_size}, repeat {self.repeat}, every {self.every}, weight {self.weight}, "
                f"anchors {list(self.anchors)} cannot be used",
                where=self.name,
                fix="Give positive numbers, and no modality as its own anchor.",
            )


@dataclass(frozen=True)
class SkippedSample:
    """A sample that could not be used: its source, its id (or file) and the reason."""

    source: str
    sample: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Samples of one source with the features of its modality and of its anchors.

    Attributes:
        source: name of the source.
        modality: the sense that the batch trains.
        samples: the rows, media undecoded.
        features: modality to what its processor returned; the batch axis follows `samples`.
        captions: one caption per sample for `modality`, drawn anew each epoch; `None` where a sample has none.
        epochs: how often the source was gone through before each sample, which keys what is drawn for it.
        weight: factor of its loss.
        skipped: samples that were replaced while this batch was made.
    """

    source: str
    modality: str
    samples: tuple[Sample, ...]
    features: Mapping[str, Mapping[str, Tensor]]
    captions: tuple[str | None, ...] = ()
    epochs: tuple[int, ...] = ()
    weight: float = 1.0
    skipped: tuple[SkippedSample, ...] = field(default=(), repr=False)

    def __len__(self) -> int:
        return len(self.samples)

    @property
    def ids(self) -> tuple[str, ...]:
        """Sample ids, prefixed by the source's name."""
        return tuple(f"{self.source}/{sample.id}" for sample in self.samples)

    @property
    def labels(self) -> tuple[str | None, ...]:
        """Class name of every sample in `modality`."""
        return tuple(sample.labels.get(self.modality) for sample in self.samples)

    def to(self, target: device) -> Batch:
        """The batch with its features on `target`."""
        moved = {
            modality: {name: tensor.to(target, non_blocking=True) for name, tensor in tensors.items()}
            for modality, tensors in self.features.items()
        }
        return replace(self, features=moved)


class Mixture:
    """The sources of a run, and the batches that each step of each process takes from them.

    Args:
        sources: in any order; names must differ.
        processor: see `FeatureProcessor`.
        seed: seed of the run.
        augment: hand a generator per sample to the processor, which then augments.
        max_skipped_share: share of a source's samples that may be unusable before the run stops (per process; at
            least one sample may).

    Raises:
        ConfigError: no source, or two of one name.
    """

    def __init__(
        self,
        sources: Sequence[Source],
        processor: FeatureProcessor,
        *,
        seed: int,
        augment: bool = True,
        max_skipped_share: float = 0.05,
    ) -> None:
        names = [source.name for source in sources]
        if not names or len(set(names)) < len(names):
            raise ConfigError(f"a mixture needs sources of different names, not {names}", fix="Rename the sources.")
        self.sources, self.processor, self.seed, self.augment = tuple(sources), processor, seed, augment
        self.max_skipped_share = max_skipped_share
        self._orders = [
            EpochOrder(
                len(source.dataset),
                (seed, source.name),
                None if source.per_class is None else source.dataset.labels(source.modality),
                source.per_class,
            )
            for source in sources
        ]
        self._groups = [_grouped(source, order, seed) for source, order in zip(sources, self._orders, strict=True)]
        self._skipped: dict[str, set[str]] = {name: set() for name in names}

    @property
    def slots(self) -> tuple[str, ...]:
        """Modality of every batch that `build` returns, in order."""
        return tuple(source.modality for source in self.sources)

    @property
    def signature(self) -> dict[str, JsonValue]:
        """What decides which samples a step takes; a resumed run compares it with its checkpoint's."""
        settings = {"seed": self.seed, "augment": self.augment}
        return settings | {
            f"source {source.name}": [
                source.modality,
                *source.anchors,
                len(source.dataset),
                source.batch_size,
                source.per_class,
                *(["grouped by length"] if source.length else []),
                *([f"every {source.every}"] if source.every > 1 else []),
                *([f"weight {source.weight}"] if source.weight != 1 else []),
            ]
            for source in self.sources
        }

    @property
    def skipped(self) -> dict[str, int]:
        """Distinct unusable samples met so far by this process, per source."""
        return {name: len(samples) for name, samples in self._skipped.items()}

    def steps_per_epoch(self, world: int = 1) -> int:
        """Micro-batches until the longest source (repeats counted) was gone through once; shorter ones go on anew."""
        lengths = zip(self.sources, self._orders, strict=True)
        return max(
            -(-order.epoch_length * source.repeat // (source.batch_size * world)) * source.every
            for source, order in lengths
        )

    def build(self, index: int, rank: int = 0, world: int = 1) -> tuple[Batch, ...]:
        """The batches of micro-step `index` for process `rank` of `world`, one per source; empty where it has a break.

        A pure function: the batches of ranks 0..world-1 laid side by side are the batch of one process with `world`
        times the batch size. Unusable samples are replaced by a keyed draw and listed in `Batch.skipped`.

        Raises:
            QuotaExceededError: `MAX_REPLACEMENTS` draws in a row were unusable.
        """
        return tuple(
            self._batch(source, self._draws(slot, index, rank, world)) for slot, source in enumerate(self.sources)
        )

    def whole(self, index: int, world: int = 1) -> tuple[Batch, ...]:
        """The batches of micro-step `index` of all processes laid side by side, the same on each of them.

        Raises: see `build`.
        """
        return tuple(
            self._batch(source, [draw for rank in range(world) for draw in self._draws(slot, index, rank, world)])
            for slot, source in enumerate(self.sources)
        )

    def once(self) -> Iterator[Batch]:
        """Every sample of the first epoch once, source after source; a source's last batch may be a smaller one.

        Raises:
            QuotaExceededError: see `build`.
        """
        for source, order in zip(self.sources, self._orders, strict=True):
            for start in range(0, order.epoch_length, source.batch_size):
                stop = min(start + source.batch_size, order.epoch_length)
                yield self._batch(source, [order.locate(position) for position in range(start, stop)])

    def account(self, batches: Sequence[Batch]) -> None:
        """Log and count the samples that were skipped in batches about to be used.

        Counting happens here, in the order of use, so that it does not depend on how far loading ran ahead.

        Raises:
            QuotaExceededError: a source has more unusable samples than `max_skipped_share` allows.
        """
        for skip in (skip for batch in batches for skip in batch.skipped):
            seen = self._skipped[skip.source]
            if skip.sample in seen:
                continue
            seen.add(skip.sample)
            logger.warning("skipped sample %s of %s: %s", skip.sample, skip.source, skip.reason)
            size = next(len(source.dataset) for source in self.sources if source.name == skip.source)
            if len(seen) > max(1, int(self.max_skipped_share * size)):
                raise QuotaExceededError(
                    f"{len(seen)} of {size} samples cannot be used, the last one because: {skip.reason}",
                    where=skip.source,
                    fix=f"Repair the data set; the quota is {self.max_skipped_share:.1%} of its samples.",
                )

    def _draws(self, slot: int, index: int, rank: int, world: int) -> list[tuple[int, int]]:
        """(epoch, sample index) of every sample of a batch."""
        size, groups, every = self.sources[slot].batch_size, self._groups[slot], self.sources[slot].every
        if (index + slot) % every:  # small data sets take turns
            return []
        index //= every
        if groups is not None:
            return groups.batch(index, rank, world, size)
        start = (index * world + rank) * size
        return [self._orders[slot].locate(position) for position in range(start, start + size)]

    def _batch(self, source: Source, draws: list[tuple[int, int]]) -> Batch:
        if not draws:
            return Batch(source=source.name, modality=source.modality, samples=(), features={})
        try:
            return self._collate(source, draws)
        except MediaError:
            logger.debug("a batch of %s has unusable samples; looking at each", source.name)
        draws, skipped = self._replace_unusable(source, draws)
        return replace(self._collate(source, draws), skipped=tuple(skipped))

    def _replace_unusable(
        self, source: Source, draws: list[tuple[int, int]]
    ) -> tuple[list[tuple[int, int]], list[SkippedSample]]:
        """The draws with every unusable sample replaced by one keyed by its place, and what was replaced."""
        good, skipped = list(draws), []
        for place, (epoch, first) in enumerate(draws):
            taken = {index for _, index in good}
            for attempt in range(MAX_REPLACEMENTS):
                try:
                    self._collate(source, [good[place]])
                    break
                except MediaError as error:
                    skipped.append(SkippedSample(source.name, self._name(source, good[place][1], error), str(error)))
                    draw = keyed_int("replace", self.seed, source.name, epoch, first, attempt)
                    good[place] = epoch, _free_index(draw % len(source.dataset), taken, len(source.dataset))
                    taken.add(good[place][1])
            else:
                raise QuotaExceededError(
                    f"{MAX_REPLACEMENTS} samples in a row cannot be used",
                    where=source.name,
                    fix=f"Repair the data set; the last reason was: {skipped[-1].reason}",
                )
        return good, skipped

    @staticmethod
    def _name(source: Source, index: int, error: MediaError) -> str:
        try:
            return source.dataset[index].id
        except MediaError:
            return error.where or f"row {index}"

    def _collate(self, source: Source, draws: Sequence[tuple[int, int]]) -> Batch:
        samples = tuple(source.dataset[index] for _, index in draws)
        epochs = [epoch for epoch, _ in draws]
        features = {
            modality: self._features(modality, samples, epochs) for modality in (source.modality, *source.anchors)
        }
        captions = tuple(
            self._caption(sample.captions.get(source.modality, ()), epoch, sample.id)
            for sample, epoch in zip(samples, epochs, strict=True)
        )
        return Batch(
            source=source.name, modality=source.modality, samples=samples, features=features, captions=captions,
            epochs=tuple(epochs), weight=source.weight,
        )  # fmt: skip

    def _features(self, modality: str, samples: Sequence[Sample], epochs: Sequence[int]) -> Mapping[str, Tensor]:
        refs = [sample.ref(modality) for sample in samples]
        keys = zip(samples, epochs, strict=True)
        rngs = [sample_rng(self.seed, epoch, sample.id, modality) for sample, epoch in keys] if self.augment else None
        return self.processor(modality, [ref.open() for ref in refs], facts=[ref.facts for ref in refs], rngs=rngs)

    def _caption(self, captions: Sequence[str], epoch: int, sample_id: str) -> str | None:
        if not captions:
            return None
        return captions[int(sample_rng(self.seed, epoch, sample_id, "caption").integers(len(captions)))]


def _grouped(source: Source, order: EpochOrder, seed: int) -> LengthGroups | None:
    length, dataset = source.length, source.dataset
    if length is None:
        return None
    return LengthGroups(order, lambda epoch, index: length(dataset[index], epoch), (seed, source.name))


def _free_index(start: int, taken: set[int], size: int) -> int:
    """The first index from `start` on (cyclically) that the batch does not have yet; `start` if it has them all."""
    return next((index % size for index in range(start, start + size) if index % size not in taken), start)
