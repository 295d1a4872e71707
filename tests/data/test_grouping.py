"""Batches of about one length."""

from __future__ import annotations

import pytest

from polysense.data.grouping import LengthGroups
from polysense.data.order import EpochOrder


def groups(length: int = 100) -> LengthGroups:
    return LengthGroups(EpochOrder(length, (0, "set")), lambda epoch, index: (7 * index) % 31, (0, "set"))


def lengths(draws: list[tuple[int, int]]) -> list[int]:
    return [(7 * index) % 31 for _, index in draws]


def test_an_epoch_has_the_samples_it_would_have_had() -> None:
    for count, size in ((100, 5), (100, 4), (96, 3)):
        steps = -(-count // size)
        for lap in range(2):
            found = [
                draw
                for step in range(lap * steps, (lap + 1) * steps)
                for draw in groups(count).batch(step, 0, 1, size)
            ]
            order = EpochOrder(count, (0, "set"))
            assert sorted(found) == sorted(order.locate(lap * steps * size + place) for place in range(steps * size))


def test_batches_are_of_about_one_length_and_come_in_no_order_of_it() -> None:
    batches = [lengths(groups().batch(step, 0, 1, 5)) for step in range(20)]
    padded = 1 - sum(map(sum, batches)) / sum(5 * max(batch) for batch in batches)
    mixed = [[(7 * EpochOrder(100, (0, "set")).locate(5 * step + place)[1]) % 31 for place in range(5)]
             for step in range(20)]  # fmt: skip
    assert padded < 0.15 < 1 - sum(map(sum, mixed)) / sum(5 * max(batch) for batch in mixed)
    heights = [max(batch) for batch in batches]
    assert heights != sorted(heights)


@pytest.mark.parametrize("index", [0, 7, 23])
def test_any_step_can_be_built_alone_and_ranks_are_parts_of_one_batch(index: int) -> None:
    warm = groups()
    for step in range(30):
        warm.batch(step, 0, 1, 8)
    whole = groups().batch(index, 0, 1, 8)
    assert warm.batch(index, 0, 1, 8) == whole
    assert groups().batch(index, 0, 2, 4) + groups().batch(index, 1, 2, 4) == whole
