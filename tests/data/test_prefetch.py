from __future__ import annotations

import threading
import time

import pytest

from polysense.data import Prefetcher


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_what_comes_out_does_not_depend_on_the_workers(workers: int) -> None:
    def slow_square(index: int) -> int:
        time.sleep(0.002 * (index % 3))
        return index * index

    with Prefetcher(slow_square, stop=20, workers=workers, depth=4) as squares:
        assert [squares[index] for index in range(20)] == [index * index for index in range(20)]


def test_nothing_beyond_the_end_is_built_and_work_is_done_ahead() -> None:
    built: list[int] = []
    two_ahead = threading.Event()

    def note(index: int) -> int:
        built.append(index)
        if index == 2:
            two_ahead.set()
        return index

    with Prefetcher(note, stop=4, workers=1, depth=2) as numbers:
        assert numbers[0] == 0
        assert two_ahead.wait(5)
        assert [numbers[index] for index in range(1, 4)] == [1, 2, 3]
    assert sorted(built) == [0, 1, 2, 3]


def test_an_error_comes_out_where_it_belongs() -> None:
    def fail_at_3(index: int) -> int:
        if index == 3:
            raise KeyError(index)
        return index

    with Prefetcher(fail_at_3, stop=10, workers=2, depth=3) as numbers:
        assert [numbers[index] for index in range(3)] == [0, 1, 2]
        with pytest.raises(KeyError):
            numbers[3]
        assert numbers[4] == 4
