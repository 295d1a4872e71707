from __future__ import annotations

import os
import signal
from multiprocessing import get_context
from pathlib import Path

import pytest

from polysense.continual import Phase, Stage, run_stages, stage_details, stage_folders
from polysense.continual.runner import stage_number
from polysense.errors import CheckpointError, ConfigError
from polysense.storage import atomic_folder

COMMON = {"seed": 0}


def stage(name: str, replay: float = 0.0) -> Stage:
    phase = Phase(
        name="joint",
        trains={".*": True},
        data=[name],
        learning_rates={"llm": 1e-4},
        batch_size=2,
        steps=3,
        replay=replay,
    )
    return Stage(name=name, modality=name, phases=[phase])


STAGES = [stage("image"), stage("video"), stage("audio")]


class Recipe:
    """Writes what a stage knows: its parent's senses and its own. Dies during the stage `dies_at`."""

    def __init__(self, dies_at: str = "") -> None:
        self.calls: list[str] = []
        self.dies_at = dies_at

    def __call__(self, stage: Stage, start: Path | None, folder: Path) -> None:
        self.calls.append(stage.name)
        known = (start / "senses.txt").read_text() if start else ""
        with atomic_folder(folder, details=stage_details(start, folder)) as temporary:
            (temporary / "senses.txt").write_text(f"{known} {stage.name}")
            if stage.name == self.dies_at:
                raise KeyboardInterrupt


def test_each_stage_begins_from_the_one_before(tmp_path: Path) -> None:
    folders = run_stages(STAGES, tmp_path, Recipe(), common=COMMON)
    assert [folder.name.rpartition("-")[0] for folder in folders] == [
        "stage-1-image",
        "stage-2-video",
        "stage-3-audio",
    ]
    assert (folders[2] / "senses.txt").read_text() == " image video audio"


def test_a_killed_run_goes_on_after_its_last_finished_stage(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        run_stages(STAGES, tmp_path, Recipe(dies_at="video"), common=COMMON)
    again = Recipe()
    folders = run_stages(STAGES, tmp_path, again, common=COMMON)
    assert again.calls == ["video", "audio"]
    assert (folders[2] / "senses.txt").read_text() == " image video audio"
    rest = Recipe()
    run_stages(STAGES, tmp_path, rest, common=COMMON)
    assert not rest.calls


def test_kill_minus_nine_within_a_stage_loses_no_finished_one(tmp_path: Path) -> None:
    def die(stage: Stage, start: Path | None, folder: Path) -> None:
        with atomic_folder(folder, details=stage_details(start, folder)) as temporary:
            (temporary / "senses.txt").write_text("half a stage")
            if stage.name == "audio":
                os.kill(os.getpid(), signal.SIGKILL)
            (temporary / "senses.txt").write_text(stage.name)

    child = get_context("fork").Process(target=run_stages, args=(STAGES, tmp_path, die), kwargs={"common": COMMON})
    child.start()
    child.join()
    again = Recipe()
    folders = run_stages(STAGES, tmp_path, again, common=COMMON)
    assert (child.exitcode, again.calls) == (-signal.SIGKILL, ["audio"])
    assert (folders[2] / "senses.txt").read_text() == "video audio"
    assert sorted(tmp_path.iterdir()) == sorted(folders)


def test_methods_share_the_stages_in_which_they_are_alike(tmp_path: Path) -> None:
    first = run_stages(STAGES, tmp_path, Recipe(), common=COMMON)
    rival = Recipe()
    second = run_stages([STAGES[0], stage("video", replay=0.1), STAGES[2]], tmp_path, rival, common=COMMON)
    assert rival.calls == ["video", "audio"]
    assert [a == b for a, b in zip(first, second, strict=True)] == [True, False, False]


def test_any_order_of_modalities_has_folders_of_its_own(tmp_path: Path) -> None:
    run_stages(STAGES, tmp_path, Recipe(), common=COMMON)
    reverse = Recipe()
    folders = run_stages(STAGES[::-1], tmp_path, reverse, common=COMMON)
    assert reverse.calls == ["audio", "video", "image"]
    assert (folders[2] / "senses.txt").read_text() == " audio video image"


def test_a_run_continues_a_stage_folder_and_counts_on(tmp_path: Path) -> None:
    (first,) = run_stages(STAGES[:1], tmp_path, Recipe(), common=COMMON)
    (second,) = run_stages(STAGES[1:2], tmp_path, Recipe(), common=COMMON, start=first)
    assert second.name.startswith("stage-2-video-") and stage_number(second) == 2
    assert (second / "senses.txt").read_text() == " image video"


def test_a_run_continues_a_folder_of_any_origin_under_the_number_it_is_given(tmp_path: Path) -> None:
    foreign = tmp_path / "llava"
    foreign.mkdir()
    (foreign / "senses.txt").write_text(" image")
    assert stage_number(foreign) == 0
    stages = STAGES[1:]
    folders = run_stages(stages, tmp_path / "run", Recipe(), common=COMMON, start=foreign, first=2)
    assert [folder.name[:8] for folder in folders] == ["stage-2-", "stage-3-"]
    assert (folders[1] / "senses.txt").read_text() == " image video audio"
    (foreign / "senses.txt").write_text(" smell")
    other = stage_folders(stages, tmp_path / "run", common=COMMON, start=foreign, first=2)
    assert not set(other) & set(folders), "what it begins from decides"


def test_a_stage_made_from_another_parent_is_refused(tmp_path: Path) -> None:
    first, second, _ = folders = stage_folders(STAGES, tmp_path, common=COMMON)
    recipe = Recipe()
    recipe(STAGES[0], None, first)
    recipe(STAGES[0], None, tmp_path / "stage-1-other")
    with atomic_folder(second, details=stage_details(tmp_path / "stage-1-other", second)):
        pass
    with pytest.raises(
        CheckpointError, match=f"{second}: the stage was made from stage-1-other, here it follows {first.name}"
    ):
        run_stages(STAGES, tmp_path, recipe, common=COMMON)
    assert not folders[2].exists()


def test_a_stage_under_the_name_of_another_is_refused(tmp_path: Path) -> None:
    _, second, third = run_stages(STAGES, tmp_path, Recipe(), common=COMMON)
    second.rename(tmp_path / "away")
    third.rename(second)
    with pytest.raises(CheckpointError, match=f"{second}: the folder holds the stage '{third.name}'"):
        run_stages(STAGES, tmp_path, Recipe(), common=COMMON)


def test_a_stage_without_the_one_before_is_refused(tmp_path: Path) -> None:
    first, second, _ = run_stages(STAGES, tmp_path, Recipe(), common=COMMON)
    first.rename(tmp_path / "away")
    recipe = Recipe()
    with pytest.raises(CheckpointError, match=rf"{second}: the stage is there.*Restore {first}"):
        run_stages(STAGES, tmp_path, recipe, common=COMMON)
    assert not recipe.calls


def test_a_damaged_stage_is_found_before_anything_is_trained(tmp_path: Path) -> None:
    _, second, third = run_stages(STAGES, tmp_path, Recipe(), common=COMMON)
    (second / "senses.txt").write_text(" image ?????")
    third.rename(tmp_path / "away")
    recipe = Recipe()
    with pytest.raises(CheckpointError, match="SHA-256 differs"):
        run_stages(STAGES, tmp_path, recipe, common=COMMON)
    assert not recipe.calls


def test_runs_that_mean_nothing_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no stages"):
        run_stages([], tmp_path, Recipe(), common=COMMON)
    with pytest.raises(CheckpointError, match="its folder is not there"):
        run_stages(STAGES, tmp_path, lambda *_: None, common=COMMON)
