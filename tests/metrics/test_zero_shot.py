from __future__ import annotations

import pytest
import torch
from torch import Tensor

from polysense.errors import ConfigError
from polysense.metrics import accuracy, class_embeddings, mean_average_precision

TABLE = {"a cat": [3.0, 4.0], "the cat": [0.0, 2.0], "a dog": [1.0, 0.0], "the dog": [5.0, 0.0]}


def encode(texts: list[str]) -> Tensor:
    return torch.tensor([TABLE[text] for text in texts])


def test_class_vectors_are_means_of_unit_vectors_made_unit() -> None:
    """cat: (0.6, 0.8) and (0, 1) average to (0.3, 0.9), of length sqrt(0.9); lengths of texts do not weigh."""
    vectors = class_embeddings(["cat", "dog"], ["a {}", "the {}"], encode)
    torch.testing.assert_close(vectors, torch.tensor([[0.3, 0.9], [0.9**0.5, 0.0]]) / 0.9**0.5)


def test_braces_in_a_class_name_are_text() -> None:
    seen: list[str] = []

    def remember(texts: list[str]) -> Tensor:
        seen.extend(texts)
        return torch.ones(len(texts), 2)

    class_embeddings(["{0.name}"], ["a {}"], remember)
    assert seen == ["a {0.name}"]


@pytest.mark.parametrize(("names", "templates"), [([], ["a {}"]), (["cat"], []), (["cat"], ["a {}", "a thing"])])
def test_a_classifier_needs_names_and_templates_with_a_place_for_them(names: list[str], templates: list[str]) -> None:
    with pytest.raises(ConfigError, match="give no classifier"):
        class_embeddings(names, templates, encode)


def test_accuracy_by_hand() -> None:
    classes = torch.eye(3)
    samples = torch.tensor([[0.9, 0.1, 0.0], [0.2, 0.5, 0.3], [0.4, 0.5, 0.1]])
    scores = accuracy(samples, classes, torch.tensor([0, 2, 2]), ks=(1, 2, 5))
    assert scores == pytest.approx({"top1": 1 / 3, "top2": 2 / 3, "top5": 1.0})


def test_mean_average_precision_by_hand() -> None:
    """Class 0: positives at ranks 1 and 3, (1 + 2/3) / 2; class 1: rank 2, 1/2; class 2 has no positive."""
    scores = torch.tensor([[0.9, 0.8, 0.1], [0.5, 0.9, 0.2], [0.4, 0.1, 0.3]])
    targets = torch.tensor([[1, 1, 0], [0, 0, 0], [1, 0, 0]])
    assert mean_average_precision(scores, targets) == pytest.approx((5 / 6 + 1 / 2) / 2)
