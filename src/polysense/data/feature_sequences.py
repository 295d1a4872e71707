"""Samples whose media are feature sequences: what a codebook is trained on, pair by pair and stage by stage."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor

from polysense.data.feature_store import FeatureStore
from polysense.data.rng import keyed_int
from polysense.data.samples import MediaRef, Sample, SampleDataset
from polysense.errors import ConfigError, FeatureShapeError, ManifestError
from polysense.modality import JsonValue
from polysense.storage import digest

logger = logging.getLogger(__name__)

TEXT = "text"
SEQUENCE, MASK = "sequence", "mask"  # names of a sense's features in a batch

Phrases = tuple[str, ...]
"""A text: one phrase is a sentence, whose words are its steps; several are a narration, each of them one step."""


def phrases_key(phrases: Phrases) -> str:
    """The name under which a store keeps a text: its features depend on nothing but its words."""
    return digest(json.dumps(phrases).encode())


@dataclass(frozen=True, kw_only=True)
class TextChoice:
    """What is told of each sample.

    Attributes:
        captions: name of the list of captions, usually the sense that they are about.
        narrated: share of all samples that are told step by step, aligned in time, in place of their sentences.
    """

    captions: str
    narrated: float = 0.0

    def of(self, dataset: SampleDataset) -> list[tuple[Phrases, ...]]:
        """The texts of every sample, of which one is drawn at a time.

        Samples are chosen for narration by their ids alone: a larger share adds samples and drops none.

        Raises:
            ConfigError: a share outside 0 to 1, or of more samples than have a narration.
        """
        samples = [dataset[index] for index in range(len(dataset))]
        narrations = {sample.id: told for sample in samples if (told := self._narration(sample))}
        wanted = round(self.narrated * len(samples))
        if not 0 <= self.narrated <= 1 or wanted > len(narrations):
            raise ConfigError(
                f"{self.narrated:.1%} of {len(samples)} samples are to be narrated, and {len(narrations)} can be",
                where="narrated", fix="Give a smaller share, or narrations in the data set.",
            )  # fmt: skip
        ranked = sorted(narrations, key=lambda sample: keyed_int("narrated", sample))
        chosen = set(ranked[:wanted])
        return [
            (narrations[sample.id],) if sample.id in chosen
            else tuple((sentence,) for sentence in sample.captions.get(self.captions, ()))
            for sample in samples
        ]  # fmt: skip

    def _narration(self, sample: Sample) -> Phrases:
        told = sample.extra.get("narrations", {})
        phrases = told.get(self.captions, ()) if isinstance(told, Mapping) else ()
        return tuple(map(str, phrases))


class FeatureSequences:
    """A data set's samples with stored sequences as their media; implements `SampleDataset`.

    A sample's medium of a sense is a tuple of sequences, of which one is drawn: all its texts, or the one there is.
    Samples that lack a sense, because its file was skipped, are left out and counted. Once it is closed nothing can be
    read from it any more.

    Args:
        dataset: says which samples there are, with their labels and whatever else a row holds.
        stores: sense to its sequences: under the samples' ids, those of "text" under `phrases_key`.
        texts: of every sample of the data set, as `TextChoice.of` gives them, where text is among the senses.

    Raises:
        ConfigError: text without texts, or no sense.
        ManifestError: no sample has all senses.
    """

    def __init__(
        self,
        dataset: SampleDataset,
        stores: Mapping[str, FeatureStore],
        texts: Sequence[tuple[Phrases, ...]] | None = None,
    ) -> None:
        if not stores or (TEXT in stores and (texts is None or len(texts) != len(dataset))):
            raise ConfigError("senses without data, or text without the texts of every sample",
                              where="feature sequences", fix="Give a store per sense, and TextChoice.of.")  # fmt: skip
        self._dataset: SampleDataset | None = dataset
        self._stores = dict(stores)
        self.senses = tuple(stores)
        keys = [self._keys(index, texts) for index in range(len(dataset))]
        self._rows = [(index, found) for index, found in enumerate(keys) if all(found.values())]
        self.left_out = len(keys) - len(self._rows)
        if not self._rows:
            raise ManifestError(f"no sample has all of {', '.join(self.senses)}", where="feature sequences",
                                fix="Extract their features first.")  # fmt: skip
        if self.left_out:
            logger.warning("%d of %d samples lack one of %s", self.left_out, len(keys), ", ".join(self.senses))

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> Sample:
        place, keys = self._rows[index]
        sample = self._open[place]
        media = {sense: MediaRef(tuple(self._stores[sense][key] for key in keys[sense])) for sense in self.senses}
        return replace(sample, media=media)

    def labels(self, modality: str) -> Sequence[str | None]:
        names = self._open.labels(modality)
        return [names[place] for place, _ in self._rows]

    def close(self) -> None:
        """End the stage that this data belongs to."""
        self._dataset = None
        self._stores = {}

    @property
    def _open(self) -> SampleDataset:
        if self._dataset is None:
            raise ManifestError("the data of a stage that is over is not accessible", where=" and ".join(self.senses),
                                fix="Keep what later stages need of it in the model.")  # fmt: skip
        return self._dataset

    def _keys(self, index: int, texts: Sequence[tuple[Phrases, ...]] | None) -> dict[str, tuple[str, ...]]:
        """Under which names the sequences of a sample are kept, by sense; none where there is no sequence."""
        sample_id = self._open[index].id
        found: dict[str, tuple[str, ...]] = {}
        for sense, store in self._stores.items():
            told = texts is not None and sense == TEXT
            names = [phrases_key(text) for text in texts[index]] if told and texts is not None else [sample_id]
            found[sense] = tuple(name for name in names if name in store)
        return found


@dataclass(frozen=True, kw_only=True)
class SequenceBatches:
    """A `FeatureProcessor` for `FeatureSequences`: one sequence per sample, padded to a fixed number of steps.

    Attributes:
        steps: of every sequence.
    """

    steps: int

    def __call__(
        self,
        modality: str,
        sources: Sequence[Any],
        *,
        facts: Sequence[Mapping[str, JsonValue]] | None = None,
        rngs: Sequence[np.random.Generator] | None = None,
    ) -> dict[str, Shaped[Tensor, "batch steps ..."]]:
        """`sequence` (`batch steps dim`, or with `height width` before it) and `mask` (`batch steps`).

        With `rngs` one of a sample's texts is drawn, without them it is the first.

        Raises:
            FeatureShapeError: sequences that are longer, or differ in more than their length.
        """
        drawn = (
            [0] * len(sources)
            if rngs is None
            else [int(r.integers(len(s))) for s, r in zip(sources, rngs, strict=True)]
        )
        chosen = [source[place] for source, place in zip(sources, drawn, strict=True)]
        shapes = {tuple(sequence.shape[1:]) for sequence in chosen}
        longest = max(map(len, chosen), default=0)
        if len(shapes) != 1 or longest > self.steps:
            raise FeatureShapeError(
                f"sequences of {modality} have steps of shapes {sorted(shapes)}, at most {longest} of them",
                fix=f"Extract them with one extractor, to at most {self.steps} steps.",
            )  # fmt: skip
        return stack_sequences(chosen, self.steps)


def stack_sequences(
    sequences: Sequence[Float[Tensor, "_ ..."]], steps: int
) -> dict[str, Shaped[Tensor, "batch steps ..."]]:
    """Sequences filled up with zeros to `steps`, and which steps are real."""
    out = sequences[0].new_zeros((len(sequences), steps, *sequences[0].shape[1:]))
    for row, sequence in zip(out, sequences, strict=True):
        row[: len(sequence)] = sequence
    lengths = torch.tensor([len(sequence) for sequence in sequences])
    mask: Bool[Tensor, "batch steps"] = torch.arange(steps) < lengths[:, None]
    return {SEQUENCE: out, MASK: mask}
