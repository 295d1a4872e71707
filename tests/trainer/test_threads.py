"""Threads are taken from computing while batches are loaded, and given back."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from polysense.trainer.threads import sharing_cores


@pytest.fixture(autouse=True)
def four_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize(("workers", "left"), [(0, 4), (1, 3), (3, 1), (9, 1)])
def test_loader_threads_have_cores_of_their_own_until_the_end(workers: int, left: int) -> None:
    with pytest.raises(KeyError), sharing_cores(workers, torch.device("cpu")):
        assert torch.get_num_threads() == left
        raise KeyError
    assert torch.get_num_threads() == 4


def test_another_device_computes_with_what_it_has() -> None:
    with sharing_cores(2, torch.device("meta")):
        assert torch.get_num_threads() == 4
