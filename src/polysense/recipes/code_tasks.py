"""What a head can be asked about a code sequence: the class of a clip (AVE), or the events of its seconds (AVVP)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Int
from torch import Tensor, nn
from torch.nn import functional as F

from polysense.data import BACKGROUND, Sample
from polysense.errors import ConfigError
from polysense.losses import LocalisationLoss
from polysense.metrics import constant_f1, event_score, f1_interval, proportion_interval
from polysense.nn.heads import EventClassifier, EventLocaliser
from polysense.recipes.codes import CodeSequences

ClassSource = Literal["label", "seconds"]
THRESHOLD = 0.5
Interval = tuple[float, float] | tuple[None, None]
UNKNOWN: Interval = (None, None)


@dataclass(frozen=True)
class Labelled:
    """Code sequences and what they are to tell.

    Attributes:
        truth: a class per sample, or which classes hold in each step.
    """

    codes: CodeSequences
    truth: Tensor


class CodeTask(ABC):
    """A kind of labels, the head that predicts them, and its scores.

    Args:
        source: where the class of a whole sample is: its "label" in the sense, or the event of most of its "seconds".
    """

    def __init__(self, source: ClassSource = "label") -> None:
        self.source = source

    @abstractmethod
    def label(self, sample: Sample, sense: str) -> Any:
        """What the sample is labelled with in `sense`; `None` where it is not."""

    @abstractmethod
    def classes(self, labels: Sequence[Any]) -> list[str]:
        """The classes that occur, in the order of the head's outputs."""

    @abstractmethod
    def truth(self, labels: Sequence[Any], classes: Sequence[str], codes: CodeSequences) -> Tensor:
        """The labels as `Labelled.truth`, on the device of the codes."""

    @abstractmethod
    def parts(self, dim: int, classes: int) -> nn.ModuleDict:
        """The new "head" for codes of width `dim`, and what else is learned with it."""

    @abstractmethod
    def loss(self, parts: nn.ModuleDict, data: Labelled, rows: Int[Tensor, " rows"]) -> Tensor:
        """The loss of some samples."""

    @abstractmethod
    def decide(self, parts: nn.ModuleDict, codes: CodeSequences) -> Tensor:
        """What the head says, in the form of `Labelled.truth`."""

    @abstractmethod
    def scores(self, decided: Tensor, data: Labelled, batch_size: int) -> dict[str, float]:
        """Name of a metric to its value between 0 and 1; the first is the one that a best epoch is chosen by."""

    @abstractmethod
    def interval(self, metric: str, decided: Tensor, data: Labelled) -> Interval:
        """90 % interval of a metric over the samples."""

    @abstractmethod
    def chance(self, data: Labelled) -> float:
        """What the best answer reaches that is the same for every sample."""


class Classification(CodeTask):
    """The class of a clip, by the maximum over its time."""

    def label(self, sample: Sample, sense: str) -> str | None:
        if self.source == "label":
            return sample.labels.get(sense)
        counts = Counter(name for second in events_of(sample, sense) or () for name in second)
        return max(counts, key=counts.__getitem__, default=None)

    def classes(self, labels: Sequence[Any]) -> list[str]:
        return sorted(set(labels))

    def truth(self, labels: Sequence[Any], classes: Sequence[str], codes: CodeSequences) -> Tensor:
        return torch.tensor([classes.index(label) for label in labels], device=codes.vectors.device)

    def parts(self, dim: int, classes: int) -> nn.ModuleDict:
        return nn.ModuleDict({"head": EventClassifier(dim, classes)})

    def loss(self, parts: nn.ModuleDict, data: Labelled, rows: Int[Tensor, " rows"]) -> Tensor:
        logits = parts["head"](data.codes.vectors[rows], data.codes.steps[rows])
        return F.cross_entropy(logits, data.truth[rows])

    def decide(self, parts: nn.ModuleDict, codes: CodeSequences) -> Tensor:
        decided: Tensor = parts["head"](codes.vectors, codes.steps).argmax(dim=-1)
        return decided

    def scores(self, decided: Tensor, data: Labelled, batch_size: int) -> dict[str, float]:
        return {"accuracy": float((decided == data.truth).float().mean())}

    def interval(self, metric: str, decided: Tensor, data: Labelled) -> Interval:
        return proportion_interval(self.scores(decided, data, 1)[metric], len(decided))

    def chance(self, data: Labelled) -> float:
        return float(torch.bincount(data.truth).max()) / len(data.truth)


class Localisation(CodeTask):
    """The events of every second, several or none at a time; background is a class like the others."""

    def label(self, sample: Sample, sense: str) -> list[list[str]] | None:
        return events_of(sample, sense)

    def classes(self, labels: Sequence[Any]) -> list[str]:
        return [*sorted({name for seconds in labels for second in seconds for name in second}), BACKGROUND]

    def truth(self, labels: Sequence[Any], classes: Sequence[str], codes: CodeSequences) -> Tensor:
        steps = codes.vectors.shape[1]
        truth = torch.zeros(len(labels), steps, len(classes), dtype=torch.bool)
        for number, seconds in enumerate(labels):
            if len(seconds) != steps:
                raise ConfigError(f"there are {len(seconds)} labelled seconds beside {steps} steps",
                                  where=f"sample {number}", fix="Extract one feature per second.")  # fmt: skip
            for step, names in enumerate(seconds):
                for name in names or [BACKGROUND]:
                    truth[number, step, classes.index(name)] = True
        return truth.to(codes.vectors.device)

    def parts(self, dim: int, classes: int) -> nn.ModuleDict:
        return nn.ModuleDict({"head": EventLocaliser(dim, classes), "loss": LocalisationLoss(classes)})

    def loss(self, parts: nn.ModuleDict, data: Labelled, rows: Int[Tensor, " rows"]) -> Tensor:
        vectors = data.codes.vectors[rows]
        value: Tensor = parts["loss"](parts["head"](vectors), data.truth[rows].to(vectors), data.codes.steps[rows])
        return value

    def decide(self, parts: nn.ModuleDict, codes: CodeSequences) -> Tensor:
        decided: Tensor = parts["head"](codes.vectors).sigmoid() > THRESHOLD
        return decided

    def scores(self, decided: Tensor, data: Labelled, batch_size: int) -> dict[str, float]:
        together = event_score(decided, data.truth, data.codes.mask)
        published = event_score(decided, data.truth, data.codes.mask, batch_size=batch_size)
        return {"F1": together.f1, "F1 by batch": published.f1, "precision by batch": published.precision}

    def interval(self, metric: str, decided: Tensor, data: Labelled) -> Interval:
        return f1_interval(decided, data.truth, data.codes.mask) if metric == "F1" else UNKNOWN

    def chance(self, data: Labelled) -> float:
        return constant_f1(data.truth, data.codes.mask)


def events_of(sample: Sample, sense: str) -> list[list[str]] | None:
    """The events of each second of a sample, background left out; `None` where the sense has no such labels.

    A second's label is a class, or a list of those that happen at once (`EventTable`).
    """
    seconds = (sample.extra.get("seconds") or {}).get(sense)
    if seconds is None:
        return None
    listed = [[each] if isinstance(each, str) else each for each in seconds]
    return [[name for name in each if name != BACKGROUND] for each in listed]


TASKS: dict[str, type[CodeTask]] = {"classification": Classification, "localisation": Localisation}
