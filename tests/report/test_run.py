"""Run folders are read in one place, leniently where a kill may have left traces, strictly elsewhere."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest

from polysense.errors import CheckpointError
from polysense.report import read_log, read_run, stage_title
from tests.report.runs import KEYS, write_mera_run, write_run


def test_stages_come_in_order_with_their_results_and_logs(tmp_path: Path) -> None:
    run = read_run(write_run(tmp_path))
    assert [stage.name for stage in run.stages] == ["stage-1-image", "stage-2-depth"]
    assert [len(stage.results) for stage in run.stages] == [1, 4]
    assert list(dict.fromkeys(line["stage"] for line in run.log)) == ["stage-1-image", "stage-2-depth"]
    assert run.config.startswith("loop:")


def test_a_step_done_again_counts_once_and_a_torn_line_is_reported(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    lines = [{"stage": "a", "step": 1, "loss": 2.0}, {"stage": "a", "step": 1, "loss": 1.0}]
    (tmp_path / "log.jsonl").write_text("\n".join(map(json.dumps, lines)) + '\n{"step": 2, "lo')
    with caplog.at_level(logging.WARNING):
        log = read_log(tmp_path)
    assert [line["loss"] for line in log] == [1.0] and log[0]["event"] == "train"
    assert "line 3 is no JSON" in caplog.text


def test_a_folder_without_stages_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="the run has no stages"):
        read_run(tmp_path)


def test_a_stage_without_a_number_is_refused(tmp_path: Path) -> None:
    (tmp_path / "stages" / "x").mkdir(parents=True)
    (tmp_path / "stages" / "x" / "stage.json").write_text("{}")
    with pytest.raises(CheckpointError, match="the stage has no number"):
        read_run(tmp_path)


def test_the_logs_of_phases_belong_to_their_stage_and_follow_in_its_order(tmp_path: Path) -> None:
    run, name = read_run(write_mera_run(tmp_path)), f"stage-2-audio-{KEYS['MERA']}"
    assert [(line["phase"], line["step"]) for line in run.log if line["stage"] == name] == [
        (phase, step) for phase in ("warm", "joint", "realign") for step in (1, 2, 3)
    ]


def test_methods_that_share_a_folder_are_chains_that_share_stages(tmp_path: Path) -> None:
    chains = [[stage.name for stage in chain] for chain in read_run(write_mera_run(tmp_path)).chains]
    first = f"stage-1-image-{KEYS['image']}"
    assert chains == [
        [first, f"stage-2-audio-{KEYS['MERA']}", f"stage-3-point_cloud-{KEYS['MERA']}"],
        [first, f"stage-2-audio-{KEYS['fine-tuning']}", f"stage-3-point_cloud-{KEYS['fine-tuning']}"],
        [f"stage-1-audio-{KEYS['alone']}"],
    ]


def test_most_runs_are_one_chain_and_a_circle_of_records_ends(tmp_path: Path) -> None:
    run = read_run(write_run(tmp_path))
    assert run.chains == (run.stages,)
    path = tmp_path / "stages" / "stage-1-image" / "stage.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "parent": "stage-2-depth"}))
    run = read_run(tmp_path)
    assert run.chains == (run.stages,)


def test_a_title_is_the_name_without_the_key() -> None:
    assert stage_title(f"stage-2-audio-{KEYS['MERA']}") == "stage-2-audio" and stage_title("a-cafe") == "a-cafe"
