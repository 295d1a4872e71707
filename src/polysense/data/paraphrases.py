"""Sentences that mean the same, for text towers that learn a language before they learn to align."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Self

from polysense.data.rng import Key, keyed_rng
from polysense.data.samples import SampleDataset
from polysense.errors import ManifestError


@dataclass(frozen=True)
class Paraphrases:
    """Groups of at least two sentences, each group with its meaning.

    Attributes:
        meanings: what the sentences of each group say, in a canonical form; equal meanings are one.
        groups: the sentences.
    """

    meanings: tuple[str, ...]
    groups: tuple[tuple[str, ...], ...]

    @classmethod
    def from_datasets(cls, datasets: Iterable[SampleDataset]) -> Self:
        """The captions of every sample, one group per modality; `semantics` of the row says what they mean.

        Raises:
            ManifestError: no sample has two captions of one modality.
        """
        found: list[tuple[str, tuple[str, ...]]] = []
        for dataset in datasets:
            for sample in (dataset[index] for index in range(len(dataset))):
                semantics = sample.extra.get("semantics") or {}
                found += [
                    (str(semantics.get(modality, f"{sample.id} {modality}")), captions)
                    for modality, captions in sample.captions.items()
                    if len(set(captions)) > 1
                ]
        if not found:
            raise ManifestError("no sample has two captions of one modality", fix="Give data sets with paraphrases.")
        meanings, groups = zip(*found, strict=True)
        return cls(meanings, groups)

    def pairs(self, count: int, *key: Key) -> tuple[Sequence[str], Sequence[str], Sequence[str]]:
        """`count` pairs of different sentences of one group, and their meanings; the same for the same key."""
        rng = keyed_rng("paraphrases", *key)
        chosen = [int(i) for i in rng.integers(len(self.groups), size=count)]
        first, second = [], []
        for group in (self.groups[i] for i in chosen):
            one, other = rng.permutation(len(group))[:2]
            first.append(group[one])
            second.append(group[other])
        return first, second, [self.meanings[i] for i in chosen]
