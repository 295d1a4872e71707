from __future__ import annotations

import json
import logging
import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate.state import AcceleratorState

from polysense.errors import (
    CheckpointError,
    FolderInUseError,
    QuotaExceededError,
    UnknownModalityError,
)
from polysense.testing.toy import ToyObjective, toy_mixture
from polysense.trainer import FolderLock, Hooks, LoopConfig, LoopState, train
from polysense.trainer.checkpoint import trainable_state


class Leave(Exception):
    """Raised to leave a run in the middle."""


def config(**settings: Any) -> LoopConfig:
    return LoopConfig(**{"steps": 12, "save_every": 5, "log_every": 4, "learning_rate": 0.01} | settings)


def leave_at(step: int) -> Hooks:
    def leave(state: LoopState) -> None:
        if state.step == step:
            raise Leave

    return Hooks(on_step_end=leave)


def log(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def test_training_lowers_the_loss_and_tells_about_it(tmp_path: Path) -> None:
    result = train(ToyObjective(dropout=0.0), toy_mixture(8), config(steps=60, learning_rate=0.05), tmp_path / "run")
    lines = [line for line in log(tmp_path / "run") if line["event"] == "train"]
    assert [line["step"] for line in lines] == list(range(4, 61, 4))
    assert set(lines[0]["losses"]) == {"audio/nce", "audio/size", "depth/nce", "depth/size"}
    assert lines[-1]["losses"]["audio/nce"] < 0.7 * lines[0]["losses"]["audio/nce"]
    assert lines[-1]["lr"] < lines[0]["lr"] and lines[0]["grad_norm"] > 0 and lines[0]["samples_per_second"] > 0
    assert (result.step, result.resumed_from, result.skipped_steps) == (60, 0, 0)
    assert result.checkpoint.name == "step-00000060"


@pytest.mark.parametrize("workers", [0, 2])
def test_a_run_that_was_left_ends_with_the_bits_of_one_that_was_not(tmp_path: Path, workers: int) -> None:
    whole, first, second = ToyObjective(), ToyObjective(), ToyObjective()
    settings = config(loader_workers=workers, accumulation=2)
    train(whole, toy_mixture(), settings, tmp_path / "whole")
    with pytest.raises(Leave):
        train(first, toy_mixture(), settings, tmp_path / "left", hooks=leave_at(7))
    torch.rand(5)  # nobody promises the state of the global generator
    assert train(second, toy_mixture(), settings, tmp_path / "left").resumed_from == 5
    expected = trainable_state(whole.module)
    assert all(torch.equal(value, expected[name]) for name, value in trainable_state(second.module).items())
    assert log(tmp_path / "left")[-1] == {"event": "end", "step": 12, "skipped_steps": 0}


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGHUP, 129)])
def test_a_request_to_stop_saves_once_and_exits_with_its_code(
    tmp_path: Path, number: signal.Signals, code: int
) -> None:
    def request(state: LoopState) -> None:
        if state.step == 3:
            os.kill(os.getpid(), number)

    with pytest.raises(SystemExit) as stop:
        train(ToyObjective(), toy_mixture(), config(), tmp_path, hooks=Hooks(on_step_end=request))
    assert stop.value.code == code
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["step-00000003"]
    assert log(tmp_path)[-1] == {"event": "stop", "step": 3, "signal": int(number)}
    assert train(ToyObjective(), toy_mixture(), config(), tmp_path).resumed_from == 3


def test_a_request_to_stop_in_the_last_step_is_heard_before_the_stage_ends(tmp_path: Path) -> None:
    ended: list[int] = []

    def request(state: LoopState) -> None:
        if state.step == 12:
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(SystemExit) as stop:
        hooks = Hooks(on_step_end=request, on_stage_end=lambda state: ended.append(state.step))
        train(ToyObjective(), toy_mixture(), config(), tmp_path, hooks=hooks)
    assert stop.value.code == 143 and not ended
    assert log(tmp_path)[-1] == {"event": "stop", "step": 12, "signal": int(signal.SIGTERM)}
    assert train(ToyObjective(), toy_mixture(), config(), tmp_path).resumed_from == 12


def test_ctrl_c_at_the_end_of_a_stage_is_not_swallowed(tmp_path: Path) -> None:
    def interrupted(state: LoopState) -> None:
        os.kill(os.getpid(), signal.SIGINT)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a background shell's children ignore it
    try:
        with pytest.raises(KeyboardInterrupt):
            train(ToyObjective(), toy_mixture(), config(), tmp_path, hooks=Hooks(on_stage_end=interrupted))
    finally:
        signal.signal(signal.SIGINT, before)
    assert train(ToyObjective(), toy_mixture(), config(), tmp_path).resumed_from == 12


def test_a_step_that_is_not_finite_is_skipped_counted_and_named(tmp_path: Path) -> None:
    bad = toy_mixture().build(2)[0].ids[1]
    objective = ToyObjective(spoil=lambda modality, batch: bad in batch.ids)
    result = train(objective, toy_mixture(), config(), tmp_path)
    skips = [line for line in log(tmp_path) if line["event"] == "skipped"]
    assert result.skipped_steps == len(skips) >= 1
    assert all(bad in line["samples"] for line in skips) and skips[0]["step"] == 2 and skips[0]["loss"] == "nan"
    assert all(torch.isfinite(value).all() for value in trainable_state(objective.module).values())
    again = train(ToyObjective(), toy_mixture(), config(), tmp_path)
    assert again.skipped_steps == result.skipped_steps


def test_too_many_of_them_in_a_row_stop_the_run(tmp_path: Path) -> None:
    objective = ToyObjective(spoil=lambda modality, batch: True)
    with pytest.raises(QuotaExceededError, match=r"log\.jsonl: 3 steps in a row"):
        train(objective, toy_mixture(), config(max_nonfinite_steps=3), tmp_path)


def test_unusable_samples_are_counted_and_end_the_run_at_the_quota(tmp_path: Path) -> None:
    few = train(ToyObjective(), toy_mixture(broken=[3]), config(), tmp_path / "few")
    assert few.skipped_samples == {"audio-set": 1, "depth-set": 1}
    assert log(tmp_path / "few")[-2]["skipped_samples"] == 2
    with pytest.raises(QuotaExceededError, match="samples cannot be used"):
        train(ToyObjective(), toy_mixture(broken=range(10)), config(), tmp_path / "many")


def test_another_frozen_base_is_refused(tmp_path: Path) -> None:
    train(ToyObjective(), toy_mixture(), config(), tmp_path)
    other = ToyObjective()
    torch.nn.init.zeros_(other.module.anchor.weight)
    with pytest.raises(CheckpointError, match="frozen parameters"):
        train(other, toy_mixture(), config(steps=20), tmp_path)


def test_a_damaged_checkpoint_is_done_without_unless_strictness_is_wanted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    whole = ToyObjective()
    train(whole, toy_mixture(), config(), tmp_path)
    newest = tmp_path / "checkpoints/step-00000012/model.safetensors"
    newest.write_bytes(newest.read_bytes()[:-1])
    with pytest.raises(CheckpointError, match=r"model\.safetensors"):
        train(ToyObjective(), toy_mixture(), config(strict_resume=True), tmp_path)
    again = ToyObjective()
    with caplog.at_level(logging.WARNING):
        assert train(again, toy_mixture(), config(), tmp_path).resumed_from == 10
    assert "step-00000012/model.safetensors" in caplog.text
    expected = trainable_state(whole.module)
    assert all(torch.equal(value, expected[name]) for name, value in trainable_state(again.module).items())


def test_two_writers_and_unknown_modalities_are_refused(tmp_path: Path) -> None:
    with FolderLock(tmp_path), pytest.raises(FolderInUseError):
        train(ToyObjective(), toy_mixture(), config(), tmp_path)
    objective = ToyObjective()
    objective.modalities = ("audio", "video")
    with pytest.raises(UnknownModalityError, match="'depth'"):
        train(objective, toy_mixture(), config(), tmp_path)


def test_bf16_trains_with_parameters_in_full_precision(tmp_path: Path) -> None:
    AcceleratorState._reset_state()
    try:
        objective = ToyObjective()
        result = train(objective, toy_mixture(), config(mixed_precision="bf16"), tmp_path)
    finally:
        AcceleratorState._reset_state()
    assert result.skipped_steps == 0
    assert objective.module.get_parameter("encoders.audio.weight").dtype == torch.float32
