"""Relative gains of a stage, from the records of the stages beside it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from polysense.hub.gains import StageGains, alone_scores, chain_gains, mean_gain, task_scores
from tests.report.runs import KEYS, write_mera_run

ALONE = {"image": {"captioning": 0.8, "qa": 0.5}}


def row(task: str, sense: str, value: float, dataset: str = "a") -> dict[str, Any]:
    return {"task": task, "metric": "m", "modality": sense, "dataset": dataset, "value": value}


def test_several_data_sets_of_one_task_count_alike() -> None:
    results = [row("captioning", "image", 0.2), row("captioning", "image", 0.6, "b"), row("qa", "audio", 1.0)]
    assert task_scores(results, "image") == {"captioning": pytest.approx(0.4)}
    assert task_scores(results, "image", "chance") == {}


def test_a_sense_was_learned_alone_where_nothing_was_learned_before() -> None:
    results = [row("qa", "image", 0.5)]
    stages: list[tuple[dict[str, Any], list[dict[str, Any]]]] = [
        ({"trained": ["image"], "parent": None}, results), ({"trained": ["image"], "parent": "x"}, []),
        ({"trained": [], "parent": None}, []),
    ]  # fmt: skip
    assert alone_scores(stages) == {"image": {"qa": 0.5}}


def test_a_gain_is_known_where_all_scores_are() -> None:
    both = [row("captioning", "image", 0.4), row("qa", "image", 0.5)]
    assert mean_gain(both, ["image"], ALONE) == pytest.approx(0.75)
    assert mean_gain(both[:1], ["image"], ALONE) is None
    assert mean_gain(both, ["image", "audio"], ALONE) is None
    assert mean_gain(both, [], ALONE) is None


def test_gains_of_a_chain_are_those_of_the_stages_beside_it(tmp_path: Path) -> None:
    stages = write_mera_run(tmp_path) / "stages"
    names = [f"stage-1-image-{KEYS['image']}", f"stage-2-audio-{KEYS['MERA']}", f"stage-3-point_cloud-{KEYS['MERA']}"]
    gains = chain_gains(stages / names[-1])
    assert list(gains) == names
    assert gains[names[0]] == StageGains(None, 1.0)
    second, third = gains[names[1]], gains[names[2]]
    assert (second.backward, second.forward) == pytest.approx(((0.6 / 0.8 + 1) / 2, (1 + 0.5 / 0.6) / 2))
    assert third.backward == pytest.approx((0.4 / 0.8 + 1 + 0.3 / 0.4 + 1) / 4)
    assert third.forward is None, "no model has learned points alone"


def test_an_expert_with_another_encoder_is_nothing_to_compare_with(tmp_path: Path) -> None:
    stages = write_mera_run(tmp_path) / "stages"
    last = stages / f"stage-2-audio-{KEYS['MERA']}"
    alone = next(stages.glob("stage-1-audio-*")) / "stage.json"
    record = json.loads(alone.read_text())
    record["hyperparameters"] = {"method": {"options": {"sense": {"encoder": "another"}}}}
    alone.write_text(json.dumps(record))
    assert chain_gains(last)[last.name].forward is None
    own = last / "stage.json"
    changed = json.loads(own.read_text()) | {"hyperparameters": record["hyperparameters"]}
    own.write_text(json.dumps(changed))
    assert chain_gains(last)[last.name].forward is not None


def test_what_a_dead_process_left_half_written_does_not_keep_a_stage_from_its_card(tmp_path: Path) -> None:
    stages = write_mera_run(tmp_path) / "stages"
    last = max(stages.iterdir(), key=lambda each: each.name)
    before = chain_gains(last)
    (stages / ".stage-9-x.tmp").mkdir()
    (stages / ".stage-9-x.tmp" / "stage.json").write_text('{"system": "me')
    assert chain_gains(last) == before
    last.rename(hidden := stages / f".{last.name}.tmp")
    assert chain_gains(hidden) == before
