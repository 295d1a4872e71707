"""Zero-shot retrieval with codes: a sequence is the mean of its quantised vectors (COMET, Tables 2, 3, 4 and 7)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import comb
from pathlib import Path

from jaxtyping import Float, Int
from torch import Tensor

from polysense.data import SampleDataset, Subset
from polysense.data.feature_sequences import TEXT
from polysense.errors import ConfigError
from polysense.metrics import best_match_ranks, match_ranks, proportion_interval, recall_at
from polysense.recipes.codes import CodeEncoder, Sentences, encoded
from polysense.recipes.evaluation import Result, unique_pool
from polysense.recipes.sources import DatasetSettings


@dataclass(frozen=True, kw_only=True)
class RetrievalSettings:
    """Which two senses find each other, and among what.

    Attributes:
        data: samples that have both; Clotho's published subset is `limit: 209` (method-facts 3.7).
        senses: two of them; "text" stands for the captions of the other.
        captions: how many captions of a sample are texts of their own, the first ones; `None` takes all. A sample
            finds its best caption, and every caption has to find its sample.
        pool: most samples. With it they are drawn so that no two mean the same in either sense; without, all count.
        ks: cut-offs of recall.

    Raises:
        ConfigError: other than two senses, or a number below 1.
    """

    data: DatasetSettings
    senses: Sequence[str]
    captions: int | None = None
    pool: int | None = None
    ks: Sequence[int] = (1, 5, 10)

    def __post_init__(self) -> None:
        if len(set(self.senses)) != 2 or len(self.senses) != 2:
            raise ConfigError(f"retrieval is between two senses, not {list(self.senses)}", where="retrieval",
                              fix="Name two different senses.")  # fmt: skip
        numbers = {"captions": [self.captions], "pool": [self.pool], "ks": self.ks}
        for name, given in numbers.items():
            if not given or any(number is not None and number < 1 for number in given):
                raise ConfigError(f"{name} is {getattr(self, name)}", fix="Give 1 or more.")


def retrieval_samples(settings: RetrievalSettings, root: Path) -> tuple[SampleDataset, Sentences | None]:
    """The samples, and their captions where one of the senses is text.

    Raises:
        ConfigError: no sample has both senses.
        ManifestError: a sample has no caption.
    """
    senses = [sense for sense in settings.senses if sense != TEXT]
    samples = _pool(settings, senses, settings.data.open(root))
    if len(senses) == 2:
        return samples, None
    sentences = Sentences(samples, senses[0], settings.captions)
    sentences.owners  # noqa: B018  # reads all captions
    return samples, sentences


def retrieval_results(name: str, settings: RetrievalSettings, encode: CodeEncoder, root: Path) -> list[Result]:
    """Recall both ways, ties at their mean rank.

    Args:
        name: what the figures' data set is called.
        encode: the frozen encoder in evaluation mode.

    Raises: see `retrieval_samples`.
    """
    samples, sentences = retrieval_samples(settings, root)
    first, label = sorted(settings.senses, key=lambda sense: sense == TEXT)
    items = encoded(encode, first, samples).pooled
    if sentences is None:
        others, owners = encoded(encode, label, samples).pooled, None
    else:
        others, owners = encoded(encode, label, sentences).pooled, sentences.owners.to(items.device)
    return [
        *_recalls(f"retrieval {first} to {label}", first, name, settings.ks, *_found(items, others, owners)),
        *_recalls(f"retrieval {label} to {first}", first, name, settings.ks, *_finders(items, others, owners)),
    ]


def _pool(settings: RetrievalSettings, senses: Sequence[str], dataset: SampleDataset) -> SampleDataset:
    rows = tuple(row for row in range(len(dataset)) if set(senses) <= set(dataset[row].media))
    if not rows:
        raise ConfigError(f"no sample has {' and '.join(senses)}", where=settings.data.name,
                          fix="Give a data set of such pairs.")  # fmt: skip
    chosen: SampleDataset = Subset(dataset, rows)
    if settings.pool is not None:
        for sense in senses:
            chosen = unique_pool(chosen, [sense], len(rows))
        chosen = Subset(chosen, tuple(range(min(settings.pool, len(chosen)))))
    return chosen


def _found(
    items: Float[Tensor, "items dim"], others: Float[Tensor, "others dim"], owners: Int[Tensor, " others"] | None
) -> tuple[Tensor, list[int], int]:
    """Ranks of what items find, how many matches each has, and the size of what they search."""
    if owners is None:
        return match_ranks(items, others), [1] * len(items), len(others)
    counts = owners.bincount(minlength=len(items)).tolist()
    return best_match_ranks(items, others, owners), counts, len(others)


def _finders(
    items: Float[Tensor, "items dim"], others: Float[Tensor, "others dim"], owners: Int[Tensor, " others"] | None
) -> tuple[Tensor, list[int], int]:
    return match_ranks(others, items, owners), [1] * len(others), len(items)


def _recalls(
    task: str, modality: str, dataset: str, ks: Sequence[int], ranks: Tensor, matches: Sequence[int], size: int
) -> list[Result]:
    results = []
    for metric, value in recall_at(ranks, ks).items():
        k = int(metric.removeprefix("R@"))
        chance = sum(_chance(size, count, k) for count in matches) / len(matches)
        low, high = proportion_interval(value, len(ranks))
        results.append(
            Result(task=task, modality=modality, dataset=dataset, metric=metric, value=value, chance=chance,
                   low=low, high=high, count=len(ranks))
        )  # fmt: skip
    return results


def _chance(size: int, matches: int, k: int) -> float:
    """Probability that at least one of so many matches is among k items drawn from a gallery."""
    return 1 - comb(size - matches, min(k, size)) / comb(size, min(k, size))
