"""Relative gains: what a model that grew sense by sense is worth beside one expert per sense (MERA, section 5.1)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

from polysense.errors import ConfigError

Scores = Mapping[str, float]
"""Score by task of one modality, such as `{"captioning": 1.0076, "qa": 0.358}`."""


@dataclass(frozen=True)
class RelativeGains:
    """Gains after each stage as shares: 1.0 is an expert's level, which the paper prints as 100.

    Attributes:
        backward: mean relative gain of the modalities learned before that stage; 1.0 for the first by definition.
        forward: relative gain of the modality learned in that stage.
    """

    backward: tuple[float, ...]
    forward: tuple[float, ...]

    @property
    def backward_mean(self) -> float:
        """Mean over all stages, the first included (Table 2)."""
        return fmean(self.backward)

    @property
    def backward_deviation(self) -> float:
        """Standard deviation over all stages, the first included, with one degree of freedom off (Table 2)."""
        return stdev(self.backward)


def relative_gain(scores: Scores, expert: Scores) -> float:
    """Mean over the tasks of score / expert's score, for one modality (MERA, section 5.1).

    Raises:
        ConfigError: the tasks differ, there is none, or an expert's score is not above zero.
    """
    if not expert or scores.keys() != expert.keys():
        raise ConfigError(
            f"scores of the tasks {sorted(scores)} cannot be compared with an expert's of {sorted(expert)}",
            fix="Evaluate the model and the expert on the same tasks.",
        )
    for task, score in expert.items():
        if not score > 0:
            raise ConfigError(
                f"the expert's score is {score}, so that nothing can be relative to it", where=task,
                fix="Train or evaluate the expert again: it has to score above zero.",
            )  # fmt: skip
    return fmean(scores[task] / expert[task] for task in expert)


def relative_gains(
    order: Sequence[str], stages: Sequence[Mapping[str, Scores]], experts: Mapping[str, Scores]
) -> RelativeGains:
    """Backward and forward relative gains of every stage (MERA, section 5.1; mean and deviation: method-facts 4.6).

    Args:
        order: modalities in the order in which they were learned, one per stage.
        stages: after each finished stage, the scores of every modality learned so far; there may be fewer stages than
            modalities while a run is going on.
        experts: scores of the model trained on that modality alone.

    Raises:
        ConfigError: there are fewer than two stages or more than modalities, a modality lacks its scores or its
            expert, or a score cannot be compared (see `relative_gain`).
    """
    if not 2 <= len(stages) <= len(order):
        raise ConfigError(
            f"{len(stages)} stages with {len(order)} modalities have no relative gains",
            fix="Give the scores of two or more stages, and one modality per stage.",
        )
    table = [
        [_gain(modality, scores, experts, number) for modality in order[:number]]
        for number, scores in enumerate(stages, start=1)
    ]
    return RelativeGains(
        backward=(1.0, *(fmean(row[:-1]) for row in table[1:])), forward=tuple(row[-1] for row in table)
    )


def _gain(modality: str, scores: Mapping[str, Scores], experts: Mapping[str, Scores], number: int) -> float:
    for name, known in ((f"stage {number}", scores), ("experts", experts)):
        if modality not in known:
            raise ConfigError(
                f"there are no scores of {modality!r}", where=name, fix="Evaluate every modality learned so far."
            )
    return relative_gain(scores[modality], experts[modality])
