from __future__ import annotations

import math

import pytest

from polysense.metrics import mean_interval, proportion_interval, verdict


def test_the_interval_of_three_seeds_by_hand() -> None:
    """Standard deviation 1, t(2 degrees, 90 %) = 2.92: half-width 2.92 / sqrt(3)."""
    mean, low, high = mean_interval([1.0, 2.0, 3.0])
    assert mean == 2
    assert (high - mean, mean - low) == pytest.approx([2.92 / math.sqrt(3)] * 2, abs=1e-4)


def test_one_seed_decides_nothing() -> None:
    assert mean_interval([0.7]) == (0.7, -math.inf, math.inf)
    assert verdict([0.7]) == "undecided within the spread"


def test_many_values_use_the_normal_quantile() -> None:
    mean, low, _ = mean_interval([0.0, 1.0] * 20)
    assert mean - low == pytest.approx(1.6449 * math.sqrt(10 / 39) / math.sqrt(40), abs=1e-4)


@pytest.mark.parametrize(
    ("differences", "expected"),
    [
        ([0.1, 0.11, 0.12], "reproduced"),
        ([-0.1, -0.11, -0.12], "not reproduced"),
        ([0.1, -0.1, 0.05], "undecided within the spread"),
    ],
)
def test_a_verdict_needs_the_interval_on_one_side_of_zero(differences: list[float], expected: str) -> None:
    assert verdict(differences) == expected


def test_wilson_interval_by_hand() -> None:
    """5 of 10 with z = 1.645: centre 1/2, half-width z / (1 + z2/10) * sqrt(1/40 + z2/400) = 0.2307."""
    low, high = proportion_interval(0.5, 10)
    assert (low, high) == pytest.approx((0.5 - 0.2307, 0.5 + 0.2307), abs=1e-4)


def test_wilson_interval_stays_between_none_and_all() -> None:
    assert all(proportion_interval(0.0, count)[0] == 0 for count in range(1, 30))
    assert all(proportion_interval(1.0, count)[1] == 1 for count in range(1, 30))
    assert proportion_interval(0.0, 20)[1] == pytest.approx(1.6449**2 / (20 + 1.6449**2), abs=1e-4)
