from __future__ import annotations

import pytest
import torch

from polysense.errors import ConfigError, FeatureShapeError
from polysense.nn.whitening import Whitening


def test_by_hand() -> None:
    # mean (1, 2), variance 2 along the first axis and 1/2 along the second
    vectors = torch.tensor([[3.0, 2.0], [-1.0, 2.0], [1.0, 3.0], [1.0, 1.0]])
    whitening = Whitening.of(vectors, 1e-3)
    white = whitening(vectors)
    expected = torch.tensor([[2**0.5, 0.0], [-(2**0.5), 0.0], [0.0, 2**0.5], [0.0, -(2**0.5)]])
    torch.testing.assert_close(white.abs().sort(dim=1).values, expected.abs().sort(dim=1).values)
    torch.testing.assert_close(white.mean(dim=0), torch.zeros(2))


def test_all_directions_are_equally_wide_and_nothing_is_correlated() -> None:
    torch.manual_seed(0)
    vectors = torch.randn(500, 6) @ torch.randn(6, 6) + 5
    whitening = Whitening.of(vectors, 1e-6)
    torch.testing.assert_close(whitening(vectors).t().cov(correction=0), torch.eye(6), atol=1e-4, rtol=0)
    assert whitening(vectors.view(5, 100, 6)).shape == (5, 100, 6)


def test_directions_below_the_floor_are_stretched_no_further() -> None:
    torch.manual_seed(0)
    vectors = torch.randn(400, 3) * torch.tensor([10.0, 1.0, 0.0])
    whitening = Whitening.of(vectors, 0.04)  # a fifth of the largest width
    widths = whitening(vectors).std(dim=0, correction=0).sort().values
    small = float(vectors[:, 1].std(correction=0) / (0.2 * vectors[:, 0].std(correction=0)))
    torch.testing.assert_close(widths, torch.tensor([0.0, small, 1.0]), atol=1e-2, rtol=0)


def test_constant_features_and_features_of_another_width_are_refused() -> None:
    with pytest.raises(FeatureShapeError, match="all features are the same"):
        Whitening.of(torch.ones(5, 2), 0.1)
    with pytest.raises(FeatureShapeError, match="features of width 3, where 2 are whitened"):
        Whitening.of(torch.randn(5, 2), 0.1)(torch.randn(4, 3))


@pytest.mark.parametrize("floor", [0.0, -1.0, 1.5])
def test_a_floor_that_is_no_share_is_refused(floor: float) -> None:
    with pytest.raises(ConfigError, match="of the largest variance"):
        Whitening.of(torch.randn(5, 2), floor)
