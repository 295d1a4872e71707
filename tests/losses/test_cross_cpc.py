from __future__ import annotations

import math

import pytest
import torch

from polysense.losses import cross_cpc


def test_two_senses_of_two_samples_by_hand() -> None:
    """Cross scores [[1, 0], [0, 2]] both ways round; self scores are left out."""
    predictions = {"a": torch.eye(2), "b": torch.tensor([[1.0, 0.0], [0.0, 2.0]])}
    targets = {"a": torch.eye(2), "b": torch.tensor([[1.0, 0.0], [0.0, 2.0]])}
    one_way = (math.log1p(math.exp(-1)) + math.log1p(math.exp(-2))) / 2
    for axis in ("both", "predictions", "targets"):
        loss = cross_cpc(predictions, targets, axis=axis, self_weight=0.0)
        assert loss.item() == pytest.approx(2 * one_way, abs=1e-6)


def test_the_released_axis_compares_predictions_and_the_paper_targets() -> None:
    """Scores, targets in rows: [[1, 3], [0, 0]]."""
    predictions, targets = {"a": torch.tensor([[1.0], [3.0]])}, {"b": torch.tensor([[1.0], [0.0]])}
    rows = (math.log1p(math.exp(2)) + math.log(2)) / 2
    columns = (math.log1p(math.exp(-1)) + math.log1p(math.exp(3))) / 2
    losses = [cross_cpc(predictions, targets, axis=axis).item() for axis in ("predictions", "targets", "both")]
    assert losses == pytest.approx([rows, columns, (rows + columns) / 2], abs=1e-6)


def test_three_senses_have_six_cross_pairs_and_three_of_a_tenth() -> None:
    """With nothing to tell samples apart every pair costs log B."""
    same = {name: torch.ones(5, 2) for name in "abc"}
    assert cross_cpc(same, same).item() == pytest.approx(6.3 * math.log(5), rel=1e-6)


def test_weights_count_where_their_sense_is_the_target() -> None:
    same = {name: torch.ones(4, 2) for name in "ab"}
    weights = {"b": torch.tensor([1.0, 0.0, 0.0, 0.0])}
    expected = (1 + 0.25) * math.log(4)
    assert cross_cpc(same, same, self_weight=0.0, weights=weights).item() == pytest.approx(expected, rel=1e-6)


def test_a_batch_without_rows_costs_nothing() -> None:
    empty = {name: torch.zeros(0, 2, requires_grad=True) for name in "ab"}
    loss = cross_cpc(empty, empty)
    loss.backward()
    assert loss.item() == 0


def test_gathered_rows_count_as_one_batch() -> None:
    whole = {name: torch.randn(4, 3) for name in "ab"}
    halves = {name: each[:2] for name, each in whole.items()}
    everything = {tuple(each[:2].flatten().tolist()): each for each in whole.values()}
    loss = cross_cpc(halves, halves, gather=lambda rows: everything[tuple(rows.flatten().tolist())])
    assert torch.equal(loss, cross_cpc(whole, whole))
