from __future__ import annotations

import pytest
import torch

from polysense.errors import FeatureShapeError
from polysense.metrics import linear_probe


def test_classes_on_two_sides_of_a_plane_are_told_apart() -> None:
    rows = torch.tensor([[0.0, 5.0], [1.0, -3.0], [10.0, 4.0], [11.0, -5.0]])
    assert linear_probe(rows, ["low", "low", "high", "high"], torch.tensor([[2.0, 9.0], [9.0, -9.0]])) == [
        "low",
        "high",
    ]


def test_what_is_not_linear_is_not_read() -> None:
    rows = torch.tensor([[0.0, 0.0], [1.0, 1.0], [0.0, 1.0], [1.0, 0.0]]).repeat(5, 1)
    labels = ["same", "same", "other", "other"] * 5
    hits = sum(guess == label for guess, label in zip(linear_probe(rows, labels, rows), labels, strict=True))
    assert hits <= 15  # of an exclusive or, three of four at most


def test_a_constant_feature_and_a_larger_scale_change_nothing() -> None:
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(60, 4, generator=generator)
    labels = ["up" if row[0] + row[1] > 0 else "down" for row in rows]
    found = linear_probe(rows, labels, rows)
    scaled = torch.cat([1000 * rows + 7, torch.full((60, 1), 3.0)], dim=1)
    assert linear_probe(scaled, labels, scaled) == found
    assert sum(guess == label for guess, label in zip(found, labels, strict=True)) >= 57


@pytest.mark.parametrize("labels", [["a", "b", "a"], ["a", "a"]])
def test_what_cannot_be_probed_is_refused(labels: list[str]) -> None:
    with pytest.raises(FeatureShapeError, match="cannot be probed"):
        linear_probe(torch.zeros(2, 2), labels, torch.zeros(1, 2))
