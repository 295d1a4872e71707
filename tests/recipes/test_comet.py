"""COMET's recipe: stages in any order, each with its own data, that go on where they were."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from polysense.errors import CheckpointError, ConfigError, FolderInUseError, ManifestError
from polysense.models.comet import CometModel
from polysense.recipes import comet
from polysense.recipes.comet import CometRun
from polysense.recipes.comet_codes import CometReader
from polysense.recipes.comet_config import CometRecipe
from polysense.recipes.sources import DatasetSettings, WorldSettings
from polysense.trainer import FolderLock, Hooks, train
from tests.recipes.comet_parts import SILENT, comet_recipe, stage_folders
from tests.recipes.features import feature_recipe, trained_nets
from tests.recipes.fixtures import Parts, events

GONE = DatasetSettings(manifest="gone.jsonl")


@pytest.fixture(scope="module")
def recipe(parts: Parts, tmp_path_factory: pytest.TempPathFactory) -> CometRecipe:
    nets = trained_nets(tmp_path_factory.getbasetemp() / "recipes", parts.world)
    return comet_recipe(parts.world, nets, tmp_path_factory.mktemp("sequences"))


@pytest.fixture(scope="module")
def output(recipe: CometRecipe, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Video-text, then audio-text."""
    folder = tmp_path_factory.mktemp("comet")
    CometRun(recipe, folder).run()
    return folder


def weights(folder: Path) -> dict[str, Tensor]:
    return dict(CometModel.from_pretrained(folder).state_dict())


def test_every_stage_is_a_checkpoint_with_its_record_and_figures(output: Path) -> None:
    first, second = stage_folders(output)
    assert first.name.startswith("stage-1-video-text-") and second.name.startswith("stage-2-audio-text-")
    record, metrics = (json.loads((second / f"{name}.json").read_text()) for name in ("stage", "metrics"))
    assert (record["system"], record["stage"], record["parent"]) == ("comet", 2, first.name)
    assert record["trained"] == ["audio", "text"] and set(record["modalities"]) == {"audio", "video", "text"}
    assert record["data"][0]["name"] == "audio-text" and record["steps"] == 3
    restarts = metrics["codebook"]["restarts_per_1000_steps"] * record["steps"] / 1000
    assert metrics["codebook"]["sizes"] == [8, 4] and restarts == pytest.approx(round(restarts))
    tasks = {each["task"] for each in metrics["results"]}
    assert {"localisation video to audio", "localisation audio to video", "retrieval audio to text"} <= tasks
    assert set(metrics["codes"]["hits"]) == {"video", "audio", "text"}
    assert {path.parent.name for path in second.glob("nets/*/config.json")} == {"video", "audio", "text"}


def test_a_stage_alone_turns_files_into_codes(output: Path, parts: Parts, tmp_path: Path) -> None:
    alone = tmp_path / "stage"
    shutil.copytree(stage_folders(output)[1], alone)
    reader = CometReader.from_pretrained(alone)
    sound = next((parts.world / "media" / "audio").iterdir())
    for sense, source in (("audio", sound), ("text", "a dog barks")):
        found = reader.codes(sense, source)
        assert found.indices.shape == (1, 10) and 0 <= int(found.indices.min()) <= int(found.indices.max()) < 12
    with pytest.raises(CheckpointError, match="no COMET model"):
        CometReader.from_pretrained(alone / "nets" / "audio")


def test_the_second_stage_grows_and_leaves_what_is_absent_alone(output: Path) -> None:
    before, after = (weights(folder) for folder in stage_folders(output))
    assert len(before["codebook.embedding"]) == 8 and len(after["codebook.embedding"]) == 12
    for name, weight in before.items():
        if ".video." in name:
            assert torch.equal(weight, after[name]), name
    assert any(not torch.equal(weight, after[name]) for name, weight in before.items() if "semantic.text" in name)


def test_the_state_of_ewc_is_beside_every_stage_and_adds_up(output: Path) -> None:
    first, second = (load_file(folder / "ewc" / "state.safetensors") for folder in stage_folders(output))
    assert {"fisher.adapter.common.weight", "anchor.adapter.specific.text.weight"} <= set(first)
    assert (second["fisher.adapter.common.weight"] >= first["fisher.adapter.common.weight"]).all()
    assert torch.equal(second["fisher.adapter.specific.video.weight"], first["fisher.adapter.specific.video.weight"])
    (log,) = (output / "training").glob("stage-2-*/log.jsonl")
    terms = [line["losses"] for line in events(log) if line["event"] == "train"]
    assert all({"audio/ewc", "audio/replay"} <= set(each) for each in terms) and terms[-1]["audio/ewc"] > 0


def test_a_finished_run_trains_nothing_again(
    output: Path, recipe: CometRecipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(comet, "train", None)
    assert CometRun(recipe, output).run() == stage_folders(output)


def test_a_run_that_is_refused_leaves_the_config_of_the_other(output: Path) -> None:
    before = (output / "config.yaml").read_bytes()
    with FolderLock(output):
        with pytest.raises(FolderInUseError, match="is writing to this folder"):
            comet.run(output / "config.yaml", output, ["seed=5"])
        assert comet.run(output / "config.yaml", output) == stage_folders(output)[1], "nothing is left to write"
    assert (output / "config.yaml").read_bytes() == before


def test_a_killed_run_ends_with_the_bits_of_one_that_was_not(
    output: Path, recipe: CometRecipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(Exception):
        pass

    def killed(state: Any) -> None:
        if state.step == 2:
            raise Killed

    stages = tmp_path / "stages"
    stages.mkdir()
    shutil.copytree(stage_folders(output)[0], stages / stage_folders(output)[0].name)
    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(comet, "train", lambda *args: train(*args, hooks=Hooks(on_step_end=killed)))
        CometRun(recipe, tmp_path).run()
    CometRun(recipe, tmp_path).run()
    (log,) = (tmp_path / "training").glob("stage-2-*/log.jsonl")
    assert [line["step"] for line in events(log) if line["event"] == "start"] == [0, 1]
    for name, weight in weights(stage_folders(output)[1]).items():
        assert torch.equal(weight, weights(stage_folders(tmp_path)[1])[name]), name
    states = [load_file(stage_folders(each)[1] / "ewc" / "state.safetensors") for each in (output, tmp_path)]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_a_chain_may_return_to_a_pair(recipe: CometRecipe, tmp_path: Path) -> None:
    back = replace(recipe, evaluation=SILENT, stages=[*recipe.stages, recipe.stages[0]])
    first, _, last = CometRun(back, tmp_path).run()
    assert last.name.startswith("stage-3-video-text-")
    assert CometModel.from_pretrained(last).config.codebook_sizes == [8, 4, 4]
    assert CometModel.from_pretrained(last).modalities == ("audio", "text", "video")
    assert any(
        not torch.equal(weights(first)[name], each) for name, each in weights(last).items() if ".video." in name
    )


def test_stages_come_in_any_order_and_through_another_mediator(recipe: CometRecipe, tmp_path: Path) -> None:
    quick = replace(recipe, evaluation=SILENT)
    chain = replace(quick, stages=[recipe.stages[1], replace(recipe.stages[0], pairs=["audio-video"])])
    run = CometRun(chain, tmp_path)
    assert [stage.mediator for stage in run.codebook_stages] == [None, "audio"]
    first, second = run.run()
    assert first.name.startswith("stage-1-audio-text") and second.name.startswith("stage-2-audio-video")
    assert set(CometModel.from_pretrained(second).modalities) == {"audio", "text", "video"}
    before, after = weights(first), weights(second)
    assert all(torch.equal(weight, after[name]) for name, weight in before.items() if ".text." in name)


def test_the_data_of_earlier_stages_cannot_be_read(
    recipe: CometRecipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Any] = []

    def noted(objective: Any, mixture: Any, *rest: Any) -> Any:
        for earlier in seen:
            with pytest.raises(ManifestError, match="the data of a stage that is over is not accessible"):
                earlier[0]
        seen.append(mixture.sources[0].dataset)
        assert seen[-1][0].media.keys() == set(seen[-1].senses)
        return train(objective, mixture, *rest)

    monkeypatch.setattr(comet, "train", noted)
    run = CometRun(replace(recipe, evaluation=SILENT), tmp_path)
    run.run()
    assert [set(each.senses) for each in seen] == [{"video", "text"}, {"audio", "text"}]
    with pytest.raises(ManifestError, match="not accessible"):
        seen[-1][0]


@pytest.mark.parametrize(
    "changes",
    [
        {"method": "cmcm"}, {"method": "turn", "comet": False}, {"comet": False}, {"pmr_teacher": "live"},
        {"ewc_scope": "adapter+encoder", "rows": 0}, {"frozen": ["text"], "comet": False},
        {"ewc_scope": "encoder", "comet": False}, {"ewc": 0.0, "pmr_teacher": None},
    ],
    ids=["cmcm", "turn-bare", "dcid-bare", "live", "wide-ewc", "frozen-text", "ewc-on-text", "no-replay"],
)  # fmt: skip
def test_every_switch_runs_both_stages(recipe: CometRecipe, changes: dict[str, Any], tmp_path: Path) -> None:
    stages = [replace(each, steps=1) for each in recipe.stages]
    changed = replace(recipe, **changes, stages=stages, evaluation=SILENT)
    first, second = CometRun(changed, tmp_path).run()
    assert (second / "ewc").exists() == (changed.strength > 0)
    before, after = weights(first), weights(second)
    assert len(after["codebook.embedding"]) - len(before["codebook.embedding"]) == 4 * (
        changed.comet and changed.rows > 0
    )
    if changed.frozen:
        assert all(torch.equal(weight, after[name]) for name, weight in before.items() if "semantic.text" in name)


def without_pairs(recipe: CometRecipe) -> CometRecipe:
    lost = replace(recipe.data.pairs["audio-text"], data=GONE)
    return replace(recipe, data=replace(recipe.data, pairs={**recipe.data.pairs, "audio-text": lost}))


def without_a_test(recipe: CometRecipe) -> CometRecipe:
    lost = replace(recipe.evaluation.retrieval["audio-text"], data=GONE)
    return replace(recipe, evaluation=replace(recipe.evaluation, retrieval={"test": lost}))


@pytest.mark.parametrize(
    ("lose", "place"), [(without_pairs, "data: pairs: audio-text"), (without_a_test, "evaluation: retrieval: test")]
)
def test_data_are_looked_for_once_the_world_is_there_and_before_nets_are_trained(
    lose: Callable[[CometRecipe], CometRecipe], place: str, recipe: CometRecipe, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    done: list[str] = []
    monkeypatch.setattr(WorldSettings, "build", lambda *_: done.append("world"))
    monkeypatch.setattr(comet, "train_features", lambda *_: done.append("nets"))
    whole = replace(recipe, features=feature_recipe(tmp_path), data=replace(recipe.data, world=WorldSettings()))
    with pytest.raises(ConfigError, match=rf"^{place}: .*gone\.jsonl"):
        CometRun(lose(whole), tmp_path)
    assert done == ["world"]


def test_settings_decide_the_folders_and_shared_beginnings_are_shared(recipe: CometRecipe, tmp_path: Path) -> None:
    def names(**changes: Any) -> list[str]:
        return [each.name for each in CometRun(replace(recipe, **changes), tmp_path).folders()]

    plain = names()
    assert names(seed=1)[0] != plain[0] and names(comet=False)[0] != plain[0]
    assert names(pmr_teacher="live")[0] == plain[0] and names(pmr_teacher="live")[1] != plain[1]
    assert names(stages=recipe.stages[:1]) == plain[:1]
