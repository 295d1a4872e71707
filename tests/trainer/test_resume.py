from __future__ import annotations

import logging
from typing import Any

import pytest

from polysense.errors import CheckpointError
from polysense.trainer import LoopConfig
from polysense.trainer.checkpoint import Checkpoint
from polysense.trainer.resume import check_origin


def origin(**changes: Any) -> dict[str, Any]:
    config = LoopConfig(**{"steps": 10, **changes}).to_dict()
    counts = {"skipped_steps": 0, "nonfinite_in_row": 0}
    return {**counts, "frozen_sha256": "a", "world": 1, "config": config, "data": {"set": ["audio", 29]}}


def test_the_same_run_goes_on_without_a_word(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        check_origin(Checkpoint(5, {}, {}, origin()), origin(save_every=7, loader_workers=0))
    assert not caplog.records


def test_every_change_that_makes_it_another_run_is_named(caplog: pytest.LogCaptureFixture) -> None:
    now = {**origin(seed=3), "world": 2, "data": {"set": ["audio", 30]}}
    with caplog.at_level(logging.WARNING):
        check_origin(Checkpoint(5, {}, {}, origin()), now)
    messages = [record.getMessage() for record in caplog.records]
    assert messages == [
        "resuming with data.set = ['audio', 30], which was ['audio', 29]",
        "resuming with loop.seed = 3, which was 0",
        "resuming with world = 2, which was 1",
    ]


def test_other_frozen_parameters_and_too_few_steps_are_refused() -> None:
    with pytest.raises(CheckpointError, match="frozen parameters of the model are not those"):
        check_origin(Checkpoint(5, {}, {}, origin()), {**origin(), "frozen_sha256": "b"})
    with pytest.raises(CheckpointError, match="the run has 4 steps, the checkpoint 5"):
        check_origin(Checkpoint(5, {}, {}, origin()), origin(steps=4))


def test_more_processes_whose_epochs_have_fewer_steps_are_told_how_many_there_were() -> None:
    with pytest.raises(CheckpointError, match=r"Start as many processes as before \(1\)"):
        check_origin(Checkpoint(5, {}, {}, origin()), {**origin(steps=4), "world": 2})


@pytest.mark.parametrize("change", [{"config": None}, {"data": [1]}, {"skipped_steps": "3"}, {"seconds": None}])
def test_a_state_that_no_training_wrote_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(CheckpointError, match=f"its state has no {next(iter(change))}"):
        check_origin(Checkpoint(5, {}, {}, {**origin(), **change}), origin())
    with pytest.raises(CheckpointError, match="nonfinite_in_row"):
        check_origin(Checkpoint(5, {}, {}, {"config": {}}), origin())
