"""Intervals that reports print beside every figure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist, fmean, stdev

# two-sided 90 % quantiles of Student's t by degrees of freedom; reports use few seeds, where the normal is too narrow
_T90 = {1: 6.3138, 2: 2.9200, 3: 2.3534, 4: 2.1318, 5: 2.0150, 6: 1.9432, 7: 1.8946, 8: 1.8595, 9: 1.8331, 10: 1.8125}

UNDECIDED = "undecided within the spread"


def mean_interval(values: Sequence[float]) -> tuple[float, float, float]:
    """Mean and 90 % interval (low, high) of a few seeds' values by Student's t; a single value has an infinite one."""
    mean = fmean(values)
    if len(values) < 2:
        return mean, -math.inf, math.inf
    half = _T90.get(len(values) - 1, NormalDist().inv_cdf(0.95)) * stdev(values) / math.sqrt(len(values))
    return mean, mean - half, mean + half


def interval(values: Sequence[float]) -> dict[str, float | None]:
    """Mean and 90 % interval of a few seeds' values; a single value has no interval, and none has no mean."""
    if not values:
        return dict.fromkeys(("mean", "low", "high"))
    named = zip(("mean", "low", "high"), mean_interval(values), strict=True)
    return {name: value if math.isfinite(value) else None for name, value in named}


def verdict(differences: Sequence[float]) -> str:
    """What paired differences (claimed better minus claimed worse) say of a claim: where their interval lies."""
    _, low, high = mean_interval(differences)
    if low > 0:
        return "reproduced"
    return "not reproduced" if high < 0 else UNDECIDED


def proportion_interval(share: float, count: int) -> tuple[float, float]:
    """90 % Wilson interval of a share of `count` trials."""
    z = NormalDist().inv_cdf(0.95)
    centre = (share + z * z / (2 * count)) / (1 + z * z / count)
    half = z / (1 + z * z / count) * math.sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    # both ends are exact at 0 and 1, where rounding could put the share outside its own interval
    return (max(0.0, centre - half) if share > 0 else 0.0), (min(1.0, centre + half) if share < 1 else 1.0)
