"""One process; two are in tests/distributed."""

from __future__ import annotations

import pytest
import torch

from polysense.errors import CheckpointError
from polysense.trainer.distributed import (
    any_rank,
    attendance,
    exchange,
    gather_objects,
    gather_with_grad,
    on_main,
    rank,
    sum_ranks,
    world_size,
)


def test_one_process_is_a_group_of_itself() -> None:
    rows = torch.ones(2, 3, requires_grad=True)
    assert gather_with_grad(rows) is rows
    assert (world_size(), rank()) == (1, 0)
    assert exchange([3, 4]) == [[3, 4]] and gather_objects("x") == ["x"]
    assert any_rank(True) and not any_rank(False)
    assert torch.equal(sum_ranks(torch.ones(2)), torch.ones(2))
    with attendance([True]) as present:
        assert present


def test_errors_of_the_main_process_are_its_own() -> None:
    def refuse() -> None:
        raise CheckpointError("it is damaged")

    assert on_main(lambda: 3) == 3
    with pytest.raises(CheckpointError, match="it is damaged"):
        on_main(refuse)
