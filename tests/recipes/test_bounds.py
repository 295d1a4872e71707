"""The supervised bound counts what a classifier gets right on the labelled samples of the test split."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from polysense.errors import ConfigError
from polysense.recipes import bounds
from polysense.recipes.bounds import supervised_accuracy


class Rows:
    """A data set of two numbers per sample, the second of which may be without a label or the sense."""

    def __init__(self, labels: list[str | None], vectors: list[list[float]], without: int = -1) -> None:
        self._labels, self.vectors, self.without = labels, vectors, without

    def labels(self, sense: str) -> list[str | None]:
        assert sense == "depth"
        return self._labels

    def __getitem__(self, index: int) -> Any:
        return SimpleNamespace(media={} if index == self.without else {"depth": "file"})


def evaluator(*datasets: Rows) -> Any:
    def embed(subset: Any, sense: str) -> torch.Tensor:
        return torch.tensor([subset.dataset.vectors[i] for i in subset.indices])

    splits = {"test": [SimpleNamespace(open=lambda root, each=each: each) for each in datasets]}
    return SimpleNamespace(settings=SimpleNamespace(splits=splits), embed=embed)


CLASSIFIER: Any = SimpleNamespace(head=torch.tensor([[9.0, 0.0], [0.0, 0.1]]), classes=("cube", "ball"))


@pytest.fixture(autouse=True)
def untyped(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stand-ins do not pass the checks of types; heads are compared by angle, so their lengths must not count."""
    monkeypatch.setattr(bounds, "Subset", lambda dataset, rows: SimpleNamespace(dataset=dataset, indices=rows))


def accuracy(*datasets: Rows) -> tuple[float, int]:
    function: Any = supervised_accuracy
    while hasattr(function, "__wrapped__"):
        function = function.__wrapped__
    found: tuple[float, int] = function(CLASSIFIER, evaluator(*datasets), Path("world"), "depth")
    return found


def test_samples_without_label_or_file_do_not_count() -> None:
    first = Rows(["cube", "ball", None], [[1.0, 0.5], [0.4, 0.6], [1.0, 0.0]])
    second = Rows(["ball", "cube"], [[0.9, 0.1], [1.0, 0.0]], without=1)
    top1, count = accuracy(first, second)
    assert top1 == pytest.approx(2 / 3) and count == 3


def test_a_split_without_labelled_samples_is_an_error() -> None:
    with pytest.raises(ConfigError, match="no labelled depth sample"):
        accuracy(Rows([None], [[1.0, 0.0]]))
