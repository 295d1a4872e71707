from __future__ import annotations

import logging
from pathlib import Path

import pytest
import torch

from polysense.errors import CheckpointError
from polysense.testing.toy import ToyModel
from polysense.trainer.checkpoint import (
    MODEL,
    OPTIMIZER,
    STATE,
    Checkpoint,
    CheckpointStore,
    frozen_fingerprint,
    load_trainable_state,
    read_checkpoint,
    trainable_state,
)


def checkpoint(step: int) -> Checkpoint:
    return Checkpoint(step, {"w": torch.full((2,), float(step))}, {"exp_avg/w": torch.zeros(2)}, {"skipped_steps": 1})


def store(folder: Path, steps: int = 3, keep: int = 3) -> CheckpointStore:
    made = CheckpointStore(folder, keep=keep)
    for step in range(1, steps + 1):
        made.save(checkpoint(step))
    return made


def test_what_was_saved_is_read_back(tmp_path: Path) -> None:
    path = CheckpointStore(tmp_path).save(checkpoint(7))
    read = read_checkpoint(path)
    assert (read.step, read.state, read.path) == (7, {"skipped_steps": 1}, path)
    assert torch.equal(read.model["w"], torch.full((2,), 7.0)) and set(read.optimizer) == {"exp_avg/w"}


def test_the_newest_are_kept_and_never_fewer_than_two(tmp_path: Path) -> None:
    names = [path.name for path in store(tmp_path, steps=5, keep=1).paths()]
    assert names == ["step-00000005", "step-00000004"]
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == sorted(names)


def test_no_checkpoint_at_all_is_no_error(tmp_path: Path) -> None:
    assert CheckpointStore(tmp_path).newest(strict=True) is None


@pytest.mark.parametrize("name", [MODEL, OPTIMIZER, STATE, "MANIFEST.json"])
def test_a_damaged_newest_one_is_named_and_the_one_before_is_used(
    tmp_path: Path, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    saved = store(tmp_path)
    (saved.paths()[0] / name).write_bytes(b"{}")
    with caplog.at_level(logging.WARNING):
        newest = saved.newest()
    assert newest is not None and newest.step == 2
    assert f"step-00000003/{name}" in caplog.text
    with pytest.raises(CheckpointError, match=name):
        saved.newest(strict=True)


def test_when_all_are_damaged_the_run_does_not_begin_anew_by_itself(tmp_path: Path) -> None:
    saved = store(tmp_path)
    for path in saved.paths():
        (path / OPTIMIZER).unlink()
    with pytest.raises(CheckpointError, match=r"none of 3 checkpoints is intact, .*remove the folder"):
        saved.newest()


def test_a_checkpoint_under_the_name_of_another_step_is_refused(tmp_path: Path) -> None:
    path = CheckpointStore(tmp_path).save(checkpoint(1))
    with pytest.raises(CheckpointError, match="holds the state of step 1"):
        read_checkpoint(path.rename(path.with_name("step-00000009")))


def test_the_trainable_state_is_what_training_changes() -> None:
    assert set(trainable_state(ToyModel())) == {
        "encoders.audio.weight", "encoders.audio.bias", "encoders.depth.weight", "encoders.depth.bias", "seen",
    }  # fmt: skip


def test_a_state_of_another_model_is_refused_before_anything_changes() -> None:
    model = ToyModel()
    saved = {name: torch.zeros_like(value) for name, value in trainable_state(model).items()}
    for changed, message in (
        ({**saved, "more": torch.zeros(1)}, "has unexpected more"),
        ({name: each.bfloat16() for name, each in saved.items()}, "has other types of"),
        ({name: saved[name] for name in saved if name != "seen"}, "lacks seen"),
        ({**saved, "encoders.depth.bias": torch.zeros(3)}, r"other sizes of encoders\.depth\.bias"),
    ):
        before = {name: value.clone() for name, value in trainable_state(model).items()}
        with pytest.raises(CheckpointError, match=message):
            load_trainable_state(model, changed)
        assert all(torch.equal(value, before[name]) for name, value in trainable_state(model).items())
    load_trainable_state(model, saved)
    assert not any(value.any() for value in trainable_state(model).values())


def test_the_fingerprint_sees_every_frozen_bit_and_nothing_that_is_trained() -> None:
    model = ToyModel()
    before = frozen_fingerprint(model)
    with torch.no_grad():
        model.get_parameter("encoders.audio.weight").add_(1)
    assert frozen_fingerprint(model) == before
    with torch.no_grad():
        model.anchor.bias[0] = torch.nextafter(model.anchor.bias[0], torch.tensor(9.0))
    assert frozen_fingerprint(model) != before
    assert frozen_fingerprint(ToyModel().bfloat16()) != before
