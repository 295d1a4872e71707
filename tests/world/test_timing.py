from __future__ import annotations

import time

import pytest

from polysense.world.timing import Stopwatch


def test_seconds_add_up_by_part_even_when_a_part_fails() -> None:
    watch = Stopwatch()
    with watch("depth"):
        time.sleep(0.01)
    with pytest.raises(ZeroDivisionError), watch("depth"):
        time.sleep(0.01)
        _ = 1 / 0
    assert 0.02 <= watch.seconds["depth"] < 1
    watch.add({"depth": 1.0, "audio": 2.0})
    assert watch.seconds["depth"] > 1
    assert watch.seconds["audio"] == 2.0
