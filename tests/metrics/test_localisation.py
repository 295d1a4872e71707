from __future__ import annotations

import pytest
import torch

from polysense.metrics import constant_f1, event_score, f1_interval

TRUTH = torch.tensor([[[1, 0], [1, 1]], [[0, 1], [0, 1]], [[0, 1], [0, 1]]], dtype=torch.bool)
"""Three samples of two seconds, two classes: seven pairs are true."""
PREDICTED = torch.tensor([[[1, 0], [0, 1]], [[0, 1], [1, 1]], [[1, 0], [1, 0]]], dtype=torch.bool)
"""2, 2 and 0 right of 2, 3 and 2 predicted; 3, 2 and 2 are there."""


def test_all_samples_together() -> None:
    score = event_score(PREDICTED, TRUTH)
    assert (score.precision, score.recall) == pytest.approx((4 / 7, 4 / 7))
    assert score.f1 == pytest.approx(4 / 7)


def test_the_published_score_averages_batches_and_takes_f1_of_the_averages() -> None:
    """Batches of two: 4 of 5 and 4 of 5, then 0 of 2 and 0 of 2, with weights 2/3 and 1/3."""
    score = event_score(PREDICTED, TRUTH, batch_size=2)
    assert (score.precision, score.recall) == pytest.approx((2 / 3 * 4 / 5, 2 / 3 * 4 / 5))
    assert score.f1 == pytest.approx(8 / 15)


def test_padding_does_not_count() -> None:
    mask = torch.tensor([[True, False], [True, True], [False, False]])
    score = event_score(PREDICTED, TRUTH, mask)
    assert (score.precision, score.recall) == pytest.approx((3 / 4, 1.0))


def test_predicting_nothing_or_having_nothing_to_find_scores_zero() -> None:
    nothing = torch.zeros_like(TRUTH)
    assert event_score(nothing, TRUTH).f1 == 0 and event_score(PREDICTED, nothing).f1 == 0


def test_a_constant_prediction_takes_the_most_frequent_classes() -> None:
    """Class 1 alone: 5 right of 6, of 7 there: 10/13; both: 7 of 12: 14/19."""
    assert constant_f1(TRUTH) == pytest.approx(10 / 13)
    assert constant_f1(TRUTH, torch.tensor([[True, True], [False, False], [False, False]])) == pytest.approx(6 / 7)


def test_a_constant_prediction_is_as_good_as_its_score_says() -> None:
    generator = torch.Generator().manual_seed(0)
    truth = torch.rand(5, 4, 3, generator=generator) < torch.tensor([0.6, 0.3, 0.1])
    tried = [
        event_score(torch.tensor([bool(n & 1), bool(n & 2), bool(n & 4)]).expand(5, 4, 3), truth).f1 for n in range(8)
    ]
    assert constant_f1(truth) == pytest.approx(max(tried))


def test_the_interval_holds_the_score_and_is_none_where_samples_agree() -> None:
    generator = torch.Generator().manual_seed(0)
    truth, predicted = (torch.rand(60, 4, 3, generator=generator) < 0.4 for _ in range(2))
    low, high = f1_interval(predicted, truth)
    assert low < event_score(predicted, truth).f1 < high and high - low < 0.2
    assert f1_interval(truth, truth) == (1.0, 1.0)
    assert f1_interval(predicted, truth) == (low, high)  # seeded
