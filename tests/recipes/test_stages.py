"""Stage folders: whole or not at all, and refused when damaged."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest

from polysense.errors import CheckpointError
from polysense.hub import render_card
from polysense.models.unialign import UniAlignModel
from polysense.recipes.stages import (
    StageRecord,
    finished,
    known_limits,
    log_parameters,
    origin,
    save_stage,
    stage_folder,
)
from polysense.testing import tiny_clip, tiny_senses
from tests.hub.stages import stage_record


def record() -> StageRecord:
    return StageRecord(
        system="unialign", stage=2, name="stage-2-depth", parent="stage-1-anchor", trained=["depth"],
        modalities=["image", "text", "depth"], base_model={"name": "clip", "license": "Apache-2.0"},
        data=[{"name": "depth", "samples": 3, "license": "CC0-1.0", "content_hash": "00"}],
        frozen={".*": False, "experts": True}, parameters={"base": (10, 0), "experts depth": (4, 4)},
        hyperparameters={"loop": {"steps": 3}}, seed=0, steps=3, seconds=1.5,
    )  # fmt: skip


def write_config(folder: Path) -> None:
    (folder / "config.json").write_text("{}\n")


METRICS = {"command": "polysense train", "commit": "", "seed": 0, "results": []}


def test_a_stage_is_saved_with_record_metrics_card_and_checksums(tmp_path: Path) -> None:
    folder = stage_folder(tmp_path, 2, "depth")
    assert folder == tmp_path / "stages" / "stage-2-depth" and not finished(folder)
    save_stage(folder, [write_config], record(), METRICS)
    assert finished(folder)
    names = {path.name for path in folder.iterdir()}
    assert {"config.json", "stage.json", "metrics.json", "README.md", "MANIFEST.json"} <= names
    stage = json.loads((folder / "stage.json").read_text())
    assert stage["parameters"] == {"base": [10, 0], "experts depth": [4, 4]} and "torch" in stage["versions"]
    assert "library_name: polysense" in (folder / "README.md").read_text()


def test_a_part_that_cannot_be_saved_leaves_no_stage(tmp_path: Path) -> None:
    def fail(folder: Path) -> None:
        raise CheckpointError("it cannot be saved")

    with pytest.raises(CheckpointError, match="cannot be saved"):
        save_stage(tmp_path / "stages/stage-2-depth", [write_config, fail], record(), METRICS)
    assert not finished(tmp_path / "stages/stage-2-depth")


@pytest.mark.parametrize("name", ["config.json", "stage.json"])
def test_a_damaged_stage_is_refused_by_the_file(name: str, tmp_path: Path) -> None:
    folder = tmp_path / "stages/stage-2-depth"
    save_stage(folder, [write_config], record(), METRICS)
    (folder / name).write_text("[]\n")
    with pytest.raises(CheckpointError, match=name.replace(".", r"\.")):
        finished(folder)


def test_the_parameters_of_every_part_are_logged(caplog: pytest.LogCaptureFixture) -> None:
    model = UniAlignModel.from_clip(tiny_clip(), tiny_senses()[:1])
    with caplog.at_level(logging.INFO):
        log_parameters(model)
    assert "tokenizer depth" in caplog.text and "% of the base" in caplog.text


def test_a_stage_of_the_embedded_world_says_that_it_saw_nothing_else(tmp_path: Path) -> None:
    assert known_limits(tmp_path) == []
    (tmp_path / "world.json").write_text("{}")
    assert len(known_limits(tmp_path)) == 1 and "synthetic world" in known_limits(tmp_path)[0]


def test_a_folder_is_not_taken_for_a_repository_of_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "runs" / "clip").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    found = {name: origin(name, "MIT")["name"] for name in ("runs/clip", "openai/clip", "clip-demo", str(tmp_path))}
    assert found == {"runs/clip": "./runs/clip", **{name: name for name in list(found)[1:]}}
    cards = {name: render_card(stage_record(base_model=origin(name, "MIT"))) for name in found}
    assert [name for name, card in cards.items() if "base_model:" in card] == ["openai/clip"]
    assert "| ./runs/clip | MIT |" in cards["runs/clip"]
