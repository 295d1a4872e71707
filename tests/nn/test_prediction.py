from __future__ import annotations

import pytest
import torch

from polysense.errors import ConfigError
from polysense.nn.prediction import ContextPredictor


def test_predictions_are_linear_maps_of_the_last_context() -> None:
    predictor, past = ContextPredictor(4, layers=2, horizon=3), torch.randn(5, 6, 4)
    context = predictor.recurrent(past)[0][:, -1]
    predictions = predictor(past)
    assert predictions.shape == (3, 5, 4)
    torch.testing.assert_close(predictions[2], predictor.ahead[2](context))


def test_the_future_is_not_seen() -> None:
    predictor, sequence = ContextPredictor(4), torch.randn(2, 6, 4)
    changed = sequence.clone()
    changed[:, 3:] += 1
    assert torch.equal(predictor(sequence[:, :3]), predictor(changed[:, :3]))


def test_a_predictor_of_nothing_is_refused() -> None:
    with pytest.raises(ConfigError, match="0 steps ahead"):
        ContextPredictor(4, horizon=0)
