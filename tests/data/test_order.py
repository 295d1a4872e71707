from __future__ import annotations

from collections import Counter

import pytest

from polysense.data.order import EpochOrder
from polysense.errors import ConfigError


def test_every_epoch_visits_each_sample_once_in_an_order_of_its_own() -> None:
    order = EpochOrder(50, (0, "set"))
    epochs = [[order.locate(50 * epoch + offset) for offset in range(50)] for epoch in range(3)]
    for number, epoch in enumerate(epochs):
        assert sorted(index for _, index in epoch) == list(range(50))
        assert {found for found, _ in epoch} == {number}
    assert len({tuple(index for _, index in epoch) for epoch in epochs}) == 3


def test_the_order_depends_on_the_key_only() -> None:
    first, again, other = EpochOrder(20, (0, "a")), EpochOrder(20, (0, "a")), EpochOrder(20, (0, "b"))
    again.locate(1000)
    assert [first.locate(p) for p in range(60)] == [again.locate(p) for p in range(60)]
    assert [first.locate(p) for p in range(20)] != [other.locate(p) for p in range(20)]


def test_a_large_class_is_sampled_down_and_all_of_it_is_seen_in_time() -> None:
    labels = ["large"] * 10 + ["small"] * 2
    order = EpochOrder(12, (0, "set"), labels, per_class=3)
    assert order.epoch_length == 5
    counts: Counter[int] = Counter()
    for epoch in range(10):
        indices = [order.locate(5 * epoch + offset)[1] for offset in range(5)]
        assert Counter(labels[index] for index in indices) == {"large": 3, "small": 2}
        assert len(set(indices[:5])) >= 4  # a class's permutation may begin anew within an epoch
        counts.update(index for index in indices if index < 10)
    assert set(counts.values()) == {3}  # 10 epochs of 3 draws from 10 samples


def test_classes_are_mixed_within_an_epoch() -> None:
    labels: list[str | None] = ["a"] * 40 + ["b"] * 30 + [None] * 30
    order = EpochOrder(100, (0, "set"), labels, per_class=30)
    first = [labels[order.locate(position)[1]] for position in range(45)]
    assert set(first) == {"a", "b", None}


def test_unusable_sizes_are_refused() -> None:
    with pytest.raises(ConfigError, match="gives no batch"):
        EpochOrder(0, (0, "empty"))
    with pytest.raises(ConfigError, match="gives no batch"):
        EpochOrder(3, (0, "set"), ["a"] * 3, per_class=0)


def test_a_position_far_ahead_costs_one_permutation() -> None:
    order = EpochOrder(1000, (0, "set"))
    assert order.locate(10**9 + 3)[0] == 10**6
