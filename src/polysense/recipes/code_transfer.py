"""A head trained on the codes of one sense and tested on another's: AVE, AVVP, AVE to AVVP (COMET, Table 1).

Both readings are scored: the published one (AVE: on the split that was trained on; AVVP: the best epoch of the test)
and the honest one (a split of its own, the last epoch); see method-facts 2.9 and 3.7.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any

from torch import Tensor

from polysense.data import SampleDataset, Subset
from polysense.errors import ConfigError, FeatureShapeError
from polysense.nn.starts import start_anew
from polysense.recipes.code_tasks import TASKS, UNKNOWN, ClassSource, CodeTask, Labelled
from polysense.recipes.codes import CodeEncoder, encoded
from polysense.recipes.evaluation import Result
from polysense.recipes.head_training import HeadSettings, train_head
from polysense.recipes.sources import DatasetSettings

LAST, BEST = "last epoch", "best epoch"
_TRAIN = "(training)"  # of what is learned from, beside the names of the tests


@dataclass(frozen=True, kw_only=True)
class TransferSettings:
    """What is learned from one sense, and where it is tested on the others.

    Attributes:
        task: name in `TASKS`: "classification" of clips, or "localisation" of the events of every second.
        train: clips with labels.
        tests: name of a figure to its clips; name the training clips as well to score as published.
        senses: every ordered pair of them is scored.
        classes: where a clip's class is; see `CodeTask`.
        head: how the head is trained.

    Raises:
        ConfigError: fewer than two senses, one named twice, or no test.
    """

    task: str
    train: DatasetSettings
    tests: Mapping[str, DatasetSettings]
    senses: Sequence[str] = ("video", "audio")
    classes: ClassSource = "label"
    head: HeadSettings = field(default_factory=HeadSettings)

    def __post_init__(self) -> None:
        if len(set(self.senses)) < max(2, len(self.senses)) or not self.tests:
            raise ConfigError(f"there are the senses {list(self.senses)} and {len(self.tests)} tests",
                              where="transfer", fix="Give two senses, each once, and one test, or more.")  # fmt: skip


@dataclass(frozen=True)
class Curve:
    """Scores of one head on one test after every epoch.

    Attributes:
        scores: a table of `CodeTask.scores` per epoch.
        decided: what the head said after the last epoch.
    """

    scores: list[dict[str, float]]
    decided: Tensor

    @property
    def chosen(self) -> Iterator[tuple[str, str, float]]:
        """Metric, epoch and value of everything that is reported; each metric has a best epoch of its own."""
        for metric, last in self.scores[-1].items():
            yield metric, LAST, last
            yield metric, BEST, max(each[metric] for each in self.scores)


def task_of(settings: TransferSettings) -> CodeTask:
    """What is learned. Raises `ConfigError` with the known names if it is none that is registered."""
    if settings.task not in TASKS:
        raise ConfigError(f"there is no task {settings.task!r}", where="task", fix=f"Known: {', '.join(TASKS)}.")
    return TASKS[settings.task](settings.classes)


def check_transfer(settings: TransferSettings, root: Path) -> None:
    """Look for the labels, of all that `transfer_results` needs. Raises: see there."""
    _labelled(settings, task_of(settings), root)


def transfer_results(settings: TransferSettings, encode: CodeEncoder, root: Path, *, seed: int = 0) -> list[Result]:
    """Scores of every ordered pair of senses on every test, beside chance and the head of the tested sense itself.

    Args:
        encode: the frozen encoder in evaluation mode.
        root: folder that the data sets are relative to.
        seed: of the head's initial weights and of the order of samples.

    Raises:
        ConfigError: a data set has no labelled sample of a sense, or labels that do not fit its sequences.
        FeatureShapeError: the senses' sequences are not of one width.
    """
    task, data, classes = _read(settings, encode, root)
    widths = {sense: each.codes.vectors.shape[-1] for (_, sense), each in data.items()}
    if len(set(widths.values())) > 1:
        raise FeatureShapeError(f"the senses' sequences have the widths {widths}",
                                fix="Transfer needs codes of one codebook.")  # fmt: skip
    curves: dict[tuple[str, str, str], Curve] = {}
    for source in settings.senses:
        tested = {(name, sense): data[name, sense] for name, sense in product(settings.tests, settings.senses)}
        found = _train(task, data[_TRAIN, source], tested, settings.head, classes, f"{seed} {source}")
        curves |= {(source, *key): curve for key, curve in found.items()}
    results = []
    for (source, name, target), curve in curves.items():
        if source != target:
            bound = curves[target, name, target]
            results += _results(settings.task, task, curve, bound, data[name, target], (source, target, name))
    return results


def own_results(settings: TransferSettings, encode: CodeEncoder, root: Path, *, seed: int = 0) -> list[Result]:
    """Scores of the same heads on the sense that they learned from: what there is to be transferred.

    With the sequences that codes are made of in place of codes, they are the bound that needs no codebook.

    Args and Raises: see `transfer_results`; senses may be of different widths.
    """
    task, data, classes = _read(settings, encode, root)
    results = []
    for sense in settings.senses:
        tested = {(name, sense): data[name, sense] for name in settings.tests}
        curves = _train(task, data[_TRAIN, sense], tested, settings.head, classes, f"{seed} {sense}")
        for (name, _), curve in curves.items():
            results += _results(settings.task, task, curve, curve, data[name, sense], (sense, sense, name))
    return results


def _read(
    settings: TransferSettings, encode: CodeEncoder, root: Path
) -> tuple[CodeTask, dict[tuple[str, str], Labelled], int]:
    """The task, its labelled sequences by figure and sense, and the number of classes."""
    task = task_of(settings)
    labels, datasets = _labelled(settings, task, root)
    classes = task.classes([label for each in labels.values() for label in each])
    data = {}
    for key, dataset in datasets.items():
        codes = encoded(encode, key[1], dataset)
        data[key] = Labelled(codes, task.truth(labels[key], classes, codes))
    return task, data, len(classes)


def _labelled(
    settings: TransferSettings, task: CodeTask, root: Path
) -> tuple[dict[tuple[str, str], list[Any]], dict[tuple[str, str], SampleDataset]]:
    """Labels and labelled samples by figure and sense."""
    labels: dict[tuple[str, str], list[Any]] = {}
    datasets: dict[tuple[str, str], SampleDataset] = {}
    for name, each in {_TRAIN: settings.train, **settings.tests}.items():
        dataset = each.open(root)
        for sense in settings.senses:
            every = [_label(dataset, index, task, sense) for index in range(len(dataset))]
            rows = tuple(index for index, label in enumerate(every) if label is not None)
            if not rows:
                raise ConfigError(f"no sample has {sense} with a label for {settings.task}", where=each.name,
                                  fix="Give a data set with labels, or correct `classes`.")  # fmt: skip
            labels[name, sense], datasets[name, sense] = [every[row] for row in rows], Subset(dataset, rows)
    return labels, datasets


def _label(dataset: SampleDataset, index: int, task: CodeTask, sense: str) -> Any:
    sample = dataset[index]
    return task.label(sample, sense) if sense in sample.media else None


def _train(
    task: CodeTask, data: Labelled, tests: Mapping[tuple[str, str], Labelled], settings: HeadSettings, classes: int,
    key: str,
) -> dict[tuple[str, str], Curve]:  # fmt: skip
    """The curves of one head on all tests."""
    parts = task.parts(data.codes.vectors.shape[-1], classes).to(data.codes.vectors.device)
    start_anew(parts["head"], f"head {key}")
    scores: defaultdict[tuple[str, str], list[dict[str, float]]] = defaultdict(list)
    decided: dict[tuple[str, str], Tensor] = {}

    def look() -> None:
        for name, test in tests.items():
            decided[name] = task.decide(parts, test.codes)
            scores[name].append(task.scores(decided[name], test, settings.batch_size))

    train_head(parts, lambda rows: task.loss(parts, data, rows), len(data.codes), settings, key=key, after_epoch=look)
    return {name: Curve(scores[name], decided[name]) for name in tests}


def _results(
    kind: str, task: CodeTask, curve: Curve, bound: Curve, data: Labelled, names: tuple[str, str, str]
) -> list[Result]:
    source, target, name = names
    bounds = {(metric, epoch): value for metric, epoch, value in bound.chosen}
    chance, results = task.chance(data), []
    for metric, epoch, value in curve.chosen:
        # the interval is that of the last epoch's decisions
        low, high = task.interval(metric, curve.decided, data) if epoch == LAST else UNKNOWN
        results.append(
            Result(
                task=f"{kind} {source} to {target}", modality=target, dataset=name, metric=f"{metric}, {epoch}",
                value=value, chance=chance, low=low, high=high, upper_bound=bounds[metric, epoch],
                count=len(data.codes),
            )
        )  # fmt: skip
    return results
