from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from polysense.errors import ConfigError, FeatureShapeError
from polysense.recipes.code_tasks import TASKS, Classification
from polysense.recipes.code_transfer import TransferSettings, check_transfer, own_results, transfer_results
from polysense.recipes.codes import CodeSequences
from polysense.recipes.config import build
from tests.recipes.code_samples import LabelEncoder, clips, write_clips


def settings(folder: Path, task: str, **changed: Any) -> TransferSettings:
    train = write_clips(folder, "train", list(clips(48)))
    spec = {
        "task": task, "train": train, "classes": "seconds",
        "tests": {"clips/train": train, "clips/test": write_clips(folder, "test", list(clips(30, seed=1)))},
        "head": {"epochs": 40, "batch_size": 8, "learning_rate": 0.01},
    }  # fmt: skip
    return build(TransferSettings, {**spec, **changed}, "transfer")


@pytest.mark.parametrize(("task", "metric"), [("classification", "accuracy"), ("localisation", "F1")])
def test_shared_codes_carry_a_head_to_another_sense(task: str, metric: str, tmp_path: Path) -> None:
    results = transfer_results(settings(tmp_path, task), LabelEncoder(), tmp_path)
    found = {(each.task, each.dataset, each.metric): each for each in results}
    for pair in ("video to audio", "audio to video"):
        for name in ("clips/train", "clips/test"):
            last, best = (found[f"{task} {pair}", name, f"{metric}, {epoch} epoch"] for epoch in ("last", "best"))
            assert last.value > 0.95 and best.value >= last.value
            assert last.chance < 0.75 and last.upper_bound is not None and last.upper_bound > 0.95
            assert last.low is not None and last.high is not None and best.low is best.high is None
            assert last.low <= last.value <= last.high and last.count == (48 if name.endswith("train") else 30)
    assert found[f"{task} video to audio", "clips/test", f"{metric}, last epoch"].modality == "audio"


def test_codes_that_say_nothing_leave_chance(tmp_path: Path) -> None:
    results = transfer_results(settings(tmp_path, "classification"), LabelEncoder(spoiled="audio"), tmp_path)
    tested = {each.task: each for each in results if each.dataset == "clips/test" and "last" in each.metric}
    forth = tested["classification video to audio"]
    assert forth.value <= forth.chance + 1e-6
    assert tested["classification audio to video"].upper_bound == pytest.approx(1)  # video's own head


def test_a_sense_bounds_itself_whatever_the_width_of_the_others(tmp_path: Path) -> None:
    def wide(sense: str, dataset: Any) -> CodeSequences:
        codes = LabelEncoder()(sense, dataset)
        return CodeSequences(codes.vectors.repeat(1, 1, 2)) if sense == "video" else codes

    few, metric = settings(tmp_path, "classification"), "accuracy, last epoch"
    found = {(each.task, each.dataset): each for each in own_results(few, wide, tmp_path) if each.metric == metric}
    assert set(found) == {(f"classification {sense} to {sense}", f"clips/{split}")
                          for sense in ("video", "audio") for split in ("train", "test")}  # fmt: skip
    assert all(each.value > 0.95 and each.value == each.upper_bound for each in found.values())
    same = transfer_results(few, LabelEncoder(), tmp_path)
    bound = next(each for each in same if each.modality == "audio" and each.metric == metric)
    assert found["classification audio to audio", bound.dataset].value == bound.upper_bound, "it is the same head"


def test_a_seed_repeats_its_figures(tmp_path: Path) -> None:
    few = settings(tmp_path, "localisation", head={"epochs": 1})
    first, again = (transfer_results(few, LabelEncoder(), tmp_path, seed=3) for _ in range(2))
    assert first == again != transfer_results(few, LabelEncoder(), tmp_path, seed=4)


def test_labels_in_neither_place_are_missed_by_name(tmp_path: Path) -> None:
    bare = write_clips(tmp_path, "bare", [{k: v for k, v in row.items() if k != "seconds"} for row in clips(3)])
    with pytest.raises(ConfigError, match="bare: no sample has video with a label for localisation"):
        transfer_results(settings(tmp_path, "localisation", tests={"bare": bare}), LabelEncoder(), tmp_path)


def test_senses_of_different_widths_are_refused(tmp_path: Path) -> None:
    def encode(sense: str, dataset: Any) -> CodeSequences:
        return CodeSequences(torch.zeros(len(dataset), 4, {"video": 3, "audio": 5}[sense]))

    with pytest.raises(FeatureShapeError, match="widths"):
        transfer_results(settings(tmp_path, "classification"), encode, tmp_path)


def test_one_sense_is_no_transfer(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="two senses"):
        settings(tmp_path, "classification", senses=["video"])


def test_a_task_is_chosen_once_it_is_registered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mine = settings(tmp_path, "mine")
    with pytest.raises(ConfigError, match=r"task: there is no task 'mine'.*classification, localisation"):
        check_transfer(mine, tmp_path)
    monkeypatch.setitem(TASKS, "mine", Classification)
    check_transfer(mine, tmp_path)
