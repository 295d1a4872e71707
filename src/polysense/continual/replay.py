"""Replay: a share of what earlier stages were trained on, drawn from every data set alike.

MERA realigns its connectors on r % of D_1..D_i alone (section 4.2); its replay rival trains stage i on D_i joined with
r % of D_1..D_{i-1}. D_i is the union of a modality's captions and questions; it is drawn from set by set, so that a
small share still has both (method-facts 4.2).
"""

from __future__ import annotations

from collections.abc import Mapping

from polysense.data import SampleDataset, Subset
from polysense.data.rng import keyed_int
from polysense.errors import ConfigError


def draw_replay(datasets: Mapping[str, SampleDataset], share: float, seed: int) -> dict[str, Subset]:
    """The same share of every data set, rounded to whole samples: the realigning set R_i, given D_1..D_i.

    Whether a sample is drawn depends on the seed, its data set's name and the ids in it, never on the order of rows
    or data sets. A smaller share is part of a larger one, and later stages draw the same samples again.

    Args:
        datasets: name to data set.
        share: from above 0 to 1.

    Returns:
        Name to the samples drawn, in an order that is keyed as well.

    Raises:
        ConfigError: the share cannot be used, there are no data sets, or one has too few samples for it.
    """
    check_replay(datasets, share)
    return {name: _draw(dataset, name, share, seed) for name, dataset in datasets.items()}


def check_replay(datasets: Mapping[str, SampleDataset], share: float) -> None:
    """Refuse at once what `draw_replay` could not draw from. Raises: see there."""
    if not 0 < share <= 1:
        raise ConfigError(f"the replay share is {share}", fix="Give a share above 0, at most 1.")
    if not datasets:
        raise ConfigError(f"there are no data sets to replay {share:.4g} of", fix="Replay from the second stage on.")
    for name, dataset in datasets.items():
        if not _count(dataset, share):
            raise ConfigError(
                f"a share of {share:.4g} of its {len(dataset)} samples is less than one sample, so nothing is "
                "replayed",
                where=name,
                fix="Raise the replay share or leave the data set out.",
            )


def join_replay(
    current: Mapping[str, SampleDataset], earlier: Mapping[str, SampleDataset], share: float, seed: int
) -> dict[str, SampleDataset]:
    """D_i joined with the share of D_1..D_{i-1}: what the replay rival trains stage i on.

    Args:
        current: the stage's own data sets, taken whole.
        earlier: those of all stages before it.
        share, seed: see `draw_replay`.

    Raises:
        ConfigError: as `draw_replay`, or a data set is both current and earlier.
    """
    if both := sorted(set(current) & set(earlier)):
        raise ConfigError("the data set is the stage's own and an earlier one", where=both[0],
                          fix="Give every stage's data sets names of their own.")  # fmt: skip
    return {**current, **draw_replay(earlier, share, seed)}


def _draw(dataset: SampleDataset, name: str, share: float, seed: int) -> Subset:
    keys = [keyed_int("replay", seed, name, dataset[index].id) for index in range(len(dataset))]
    return Subset(dataset, tuple(sorted(range(len(dataset)), key=keys.__getitem__)[: _count(dataset, share)]))


def _count(dataset: SampleDataset, share: float) -> int:
    """A share of a data set in whole samples."""
    return int(share * len(dataset) + 0.5)
