from __future__ import annotations

import torch

from polysense.nn.gaussian import GaussianApproximation


def test_mean_and_bounded_log_variance_have_the_width_of_y() -> None:
    approximation = GaussianApproximation(6, 4)
    mean, log_variance = approximation(100 * torch.randn(2, 3, 6))
    assert mean.shape == log_variance.shape == (2, 3, 4)
    assert log_variance.abs().max() <= 1


def test_it_has_four_layers_each_of_half_the_width() -> None:
    widths = [
        tuple(each.shape) for name, each in GaussianApproximation(8, 5).mean.named_parameters() if "weight" in name
    ]
    assert widths == [(4, 8), (4, 4), (4, 4), (5, 4)]
