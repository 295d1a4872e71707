"""What full supervision of a sense reaches: the bound beside which its zero-shot figures are read."""

from __future__ import annotations

from pathlib import Path

import torch
from torch.nn import functional as F

from polysense.data import Subset
from polysense.errors import ConfigError
from polysense.recipes.evaluation import Evaluator
from polysense.trainer.supervised import SupervisedClassifier


@torch.no_grad()
def supervised_accuracy(
    classifier: SupervisedClassifier, evaluator: Evaluator, root: Path, sense: str
) -> tuple[float, int]:
    """Top-1 accuracy of a trained classifier on the split "test", and the number of samples it was measured on.

    Args:
        evaluator: of the classifier's encoder, so that both figures rest on the same encoding.
        root: folder that the evaluation's data sets are relative to.

    Raises:
        ConfigError: the split has no labelled sample of the sense.
    """
    head = F.normalize(classifier.head, dim=-1).float().cpu()
    right, count = 0, 0
    for settings in evaluator.settings.splits.get("test", ()):
        dataset = settings.open(root)
        labels = dataset.labels(sense)
        rows = tuple(i for i, label in enumerate(labels) if label is not None and sense in dataset[i].media)
        if rows:
            best = (evaluator.embed(Subset(dataset, rows), sense) @ head.t()).argmax(dim=-1).tolist()
            right += sum(classifier.classes[b] == labels[i] for b, i in zip(best, rows, strict=True))
            count += len(rows)
    if not count:
        raise ConfigError(f"the split 'test' has no labelled {sense} sample to measure the bound on",
                          fix="Add one to evaluation.splits.test, or set bounds: 0.")  # fmt: skip
    return right / count, count
