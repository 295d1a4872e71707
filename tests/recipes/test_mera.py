"""MERA's recipe: stages that train, merge, realign, and go on where they were."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from polysense.continual.stage_adapter import read_adapters
from polysense.errors import CheckpointError, ConfigError, FolderInUseError
from polysense.merging import effective_weight
from polysense.models.mera import MeraForConditionalGeneration, MeraProcessor
from polysense.models.unialign import UniAlignModel, UniAlignProcessor
from polysense.recipes import llama_anchor, mera, mera_stage
from polysense.recipes.config import read_config
from polysense.recipes.mera import MeraRecipe, MeraRun
from polysense.trainer import FolderLock, Hooks, train
from tests.recipes.fixtures import Parts, events

RIVALS = {"ewc": "method={name: ewc, share: 0.5}", "pathweave": "method={name: pathweave}",
          "fine-tuning": "merge=null", "replay": "joint.replay=0.5"}  # fmt: skip
STEPS = ["connector.steps=2", "joint.steps=2", "realign.steps=2", "connector.epochs=null", "joint.epochs=null",
         "realign.epochs=null", "realign.replay=0.5"]  # fmt: skip


@pytest.fixture(scope="module")
def overrides(parts: Parts, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """What makes the world's recipe tiny: a bare Llama, an untrained UniAlign, two stages of a few steps."""
    folder = tmp_path_factory.mktemp("mera-parts")
    tiny = ["num_hidden_layers=1", "hidden_size=32", "intermediate_size=64"]
    small = [*(f"model.{each}" for each in tiny), "corpus=200", "batch_size=4", "loop.steps=1"]
    llm = llama_anchor.run("llama", folder, small)
    encoder = folder / "encoder"
    UniAlignModel.from_clip(parts.anchor, ["depth", "audio"]).save_pretrained(encoder)
    UniAlignProcessor.from_clip(parts.anchor, ["depth", "audio"]).save_pretrained(encoder)
    senses = [f"{name}: {{encoder: {encoder}}}" for name in ("depth", "audio")]
    manifests = {"depth": "stills", "audio": "clips"}
    sources = [f"{name}: {{modality: {name}, data: {{manifest: manifests/{kind}-train.jsonl, limit: 8}}}}"
               for name, kind in manifests.items()]  # fmt: skip
    tests = [f"{name}: {{modality: {name}, data: {{manifest: manifests/{kind}-test.jsonl}}}}"
             for name, kind in manifests.items()]  # fmt: skip
    return [
        f"evaluation={{limit: 3, questions: 1, max_new_tokens: 4, tests: {{{', '.join(tests)}}}}}",
        f"data_root={parts.world}", "world.size=tiny", "world.difficulty=standard", f"llm={llm}",
        f"senses={{{', '.join(senses)}}}",
        f"sources={{{', '.join(sources)}}}", "stages=[depth, audio]", "adapter.rank=2", "adapter.alpha=4.0",
        "connector.batch_size=4", "joint.batch_size=4", "realign.batch_size=4", "loop.save_every=1",
        "loop.log_every=1", "loop.loader_workers=0", *STEPS,
    ]  # fmt: skip


@pytest.fixture(scope="module")
def output(overrides: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("mera")
    mera.run("world", folder, overrides)
    return folder


@pytest.fixture(scope="module")
def rivals(output: Path, overrides: list[str], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Second stage of every rival, all in the folder of the run that merges."""
    folder = tmp_path_factory.mktemp("rivals") / "run"
    shutil.copytree(output, folder)
    return {name: mera.run("world", folder, [*overrides, override]) for name, override in RIVALS.items()}


def stages(output: Path) -> list[Path]:
    return sorted((output / "stages").iterdir())


def weights(folder: Path) -> dict[str, Tensor]:
    return dict(MeraForConditionalGeneration.from_pretrained(folder).state_dict())


def fingerprint(state: Mapping[str, Tensor], part: str) -> str:
    together = hashlib.sha256()
    for name in sorted(state):
        if part in name:
            together.update(name.encode() + state[name].numpy().tobytes())
    return together.hexdigest()


def test_every_stage_is_a_folder_that_loads_alone_and_answers(output: Path, parts: Parts) -> None:
    first, second = stages(output)
    assert first.name.startswith("stage-1-depth-") and second.name.startswith("stage-2-audio-")
    model, processor = MeraForConditionalGeneration.from_pretrained(second), MeraProcessor.from_pretrained(second)
    assert set(model.modalities) == {"depth", "audio"} and len(model.model.encoders) == 1
    path = next((parts.world / "media").rglob("*.flac"))
    chat = [{"role": "user", "content": [{"type": "audio", "path": str(path)}, "what is it ?"]}]
    inputs = processor.apply_chat_template(chat, add_generation_prompt=True, tokenize=True, return_dict=True)
    out = model.generate(**inputs, max_new_tokens=3, do_sample=False)
    assert out.shape[1] > inputs["input_ids"].shape[1]
    record = json.loads((second / "stage.json").read_text())
    assert (record["system"], record["stage"], record["parent"]) == ("mera", 2, first.name)
    assert record["steps"] == 6 and "language model" in record["parameters"]
    assert (record["merge"]["method"], record["merge"]["coefficient"]) == ("running_average", 0.5)
    assert set(record["merge"]["rounding"]) == {"once", "by_stage"}
    card = (second / "README.md").read_text()
    assert "library_name: polysense" in card and "| 2 | audio | running_average | 0.5 |" in card
    assert "- It answers about files of depth, audio, and refuses others" in card


def test_every_stage_is_scored_on_the_senses_learned_so_far(output: Path) -> None:
    for folder, senses in zip(stages(output), (["depth"], ["audio", "depth"]), strict=True):
        record = json.loads((folder / "metrics.json").read_text())
        scored = {(each["modality"], each["task"]) for each in record["results"]}
        assert scored == {(name, task) for name in senses for task in ("captioning", "question answering")}
        assert all(each["low"] <= each["value"] <= each["high"] for each in record["results"])
        assert {each["coverage"] for each in record["judgements"].values()} == {1.0}
        said = [json.loads(line) for line in (folder / "answers.jsonl").read_text().splitlines()]
        assert [each["task"] for each in said[:2]] == ["caption", "question"] and {
            each["modality"] for each in said
        } == set(senses)


def test_the_first_stage_is_neither_realigned_nor_scaled(output: Path) -> None:
    first, second = stages(output)
    phases = [sorted(path.name for path in (output / "training" / each.name).iterdir()) for each in (first, second)]
    assert phases == [["adapter", "answers", "connector", "joint"],
                      ["adapter", "answers", "connector", "joint", "realign"]]  # fmt: skip
    assert [each.coefficient for each in read_adapters(second)] == [1.0, 0.5]


def test_the_merged_weights_are_the_base_and_the_scaled_deltas(output: Path, overrides: list[str]) -> None:
    merged, adapters = weights(stages(output)[1]), read_adapters(stages(output)[1])
    base = MeraRun(read_config(MeraRecipe, "mera", "world", overrides), output)
    origin: Any = MeraForConditionalGeneration.from_parts(base.llm).state_dict()
    assert len(adapters[0].factors) == 7
    for key, weight in merged.items():
        if key in adapters[0].factors:
            assert torch.equal(weight, effective_weight(origin[key], [each.scaled(key) for each in adapters]))
            assert not torch.equal(weight, origin[key])
        elif "language_model" in key or "lm_head" in key:
            assert torch.equal(weight, origin[key]), key


def test_realigning_moves_connectors_and_leaves_the_language_model(
    output: Path, overrides: list[str], tmp_path: Path
) -> None:
    mera.run("world", tmp_path, [*overrides, "realign=null"])
    first, (_, merged), realigned = weights(stages(output)[0]), stages(tmp_path), weights(stages(output)[1])
    before = weights(merged)
    assert fingerprint(before, "language_model") == fingerprint(realigned, "language_model")
    assert fingerprint(before, "encoders") == fingerprint(realigned, "encoders") == fingerprint(first, "encoders")
    # the first two phases of a stage leave older connectors alone, realigning moves all of them
    assert fingerprint(before, "connectors.depth") == fingerprint(first, "connectors.depth")
    for sense in ("depth", "audio"):
        assert fingerprint(before, f"connectors.{sense}") != fingerprint(realigned, f"connectors.{sense}")


def test_the_record_of_a_stage_shows_that_realigning_left_the_language_model(
    output: Path, overrides: list[str], tmp_path: Path
) -> None:
    first, second = (json.loads((folder / "stage.json").read_text())["hashes"] for folder in stages(output))
    assert list(first) == ["language model"]
    assert second["language model before realigning"] == second["language model"] != first["language model"]
    shutil.copytree(output / "stages", tmp_path / "stages")
    whole = mera.run("world", tmp_path, [*overrides, "realign.learning_rates.language_model=1.0e-3"])
    moved = json.loads((whole / "stage.json").read_text())["hashes"]
    assert moved["language model before realigning"] == second["language model"] != moved["language model"]


def test_a_store_of_frozen_tokens_changes_no_bit_and_serves_the_next_run(
    output: Path, overrides: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = [*overrides, f"frozen_store={tmp_path / 'tokens'}"]
    mera.run("world", tmp_path / "one", kept)
    assert [path.name for path in stages(tmp_path / "one")] == [path.name for path in stages(output)]
    monkeypatch.setattr(MeraForConditionalGeneration, "encode", None)  # nothing is encoded again
    second = mera.run("world", tmp_path / "two", kept)
    wanted, found = weights(stages(output)[1]), weights(second)
    assert all(torch.equal(found[key], weight) for key, weight in wanted.items())


def test_a_finished_run_trains_nothing_and_a_lost_stage_comes_back_with_the_same_bits(
    output: Path, overrides: list[str], tmp_path: Path
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(output, copy)
    _, second = stages(copy)
    wanted = weights(second)
    assert mera.run("world", copy, overrides) == second
    shutil.rmtree(second)
    shutil.rmtree(copy / "training" / second.name / "realign")
    joint = copy / "training" / second.name / "joint"
    shutil.rmtree(joint / "checkpoints" / "step-00000002")
    assert mera.run("world", copy, overrides) == second
    found = weights(second)
    assert all(torch.equal(found[key], weight) for key, weight in wanted.items())
    assert [line["step"] for line in events(joint / "log.jsonl") if line["event"] == "start"][-1] == 1


def test_what_is_checked_is_what_the_first_stage_trains(
    overrides: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, begin = list[str](), MeraRun.begin

    def counted(self: MeraRun, start: Path | None, sense: str) -> Any:
        begun.append(sense)
        return begin(self, start, sense)

    monkeypatch.setattr(MeraRun, "begin", counted)
    folder = MeraRun(read_config(MeraRecipe, "mera", "world", overrides), tmp_path).run()[0]  # which nothing checked
    mera.run("world", tmp_path / "checked", overrides)
    assert begun == ["depth", "audio"] * 2
    unchecked, checked = weights(folder), weights(stages(tmp_path / "checked")[0])
    assert unchecked.keys() == checked.keys()
    assert all(torch.equal(checked[key], weight) for key, weight in unchecked.items())


def test_the_folders_are_known_before_and_after_the_stages_are_there(output: Path, overrides: list[str]) -> None:
    assert MeraRun(read_config(MeraRecipe, "mera", "world", overrides), output).folders() == stages(output)


def test_a_run_that_is_refused_leaves_the_config_of_the_other(output: Path, overrides: list[str]) -> None:
    before = (output / "config.yaml").read_bytes()
    with FolderLock(output):
        with pytest.raises(FolderInUseError, match="is writing to this folder"):
            mera.run("world", output, [*overrides, "seed=5"])
        assert mera.run("world", output, overrides) == stages(output)[1], "nothing is left to write"
    assert (output / "config.yaml").read_bytes() == before


def test_methods_share_the_first_stage_and_a_damaged_one_is_refused(
    output: Path, overrides: list[str], tmp_path: Path
) -> None:
    run = MeraRun(read_config(MeraRecipe, "mera", "world", [*overrides, "merge=null", "realign=null"]), tmp_path)
    other = MeraRun(read_config(MeraRecipe, "mera", "world", overrides), tmp_path)
    assert run.stages[0] == other.stages[0] and run.stages[1] != other.stages[1]
    copy = tmp_path / "copy"
    shutil.copytree(output, copy)
    (stages(copy)[0] / "config.json").write_text("{}")
    with pytest.raises(CheckpointError, match=r"config\.json"):
        mera.run("world", copy, overrides)


def test_rivals_share_the_first_stage_and_part_from_the_second_on(rivals: dict[str, Path], output: Path) -> None:
    names = [path.name for path in stages(rivals["ewc"].parents[1])]
    assert len(names) == 1 + 1 + len(RIVALS) == len(set(names))
    assert {path.name for path in stages(output)} <= set(names)
    for folder in rivals.values():
        assert json.loads((folder / "stage.json").read_text())["parent"] == stages(output)[0].name
    events_of = {name: events(path.parents[1] / "training" / path.name / "joint" / "log.jsonl")
                 for name, path in rivals.items()}  # fmt: skip
    terms = {name: {term for line in lines if line["event"] == "train" for term in line["losses"]}
             for name, lines in events_of.items()}  # fmt: skip
    assert terms == {"ewc": {"audio/answers", "audio/ewc"}, "pathweave": {"audio/answers"},
                     "fine-tuning": {"audio/answers"}, "replay": {"audio/answers", "depth/answers"}}  # fmt: skip
    assert next(line["losses"]["audio/ewc"] for line in events_of["ewc"] if line["event"] == "train") == 0


@pytest.mark.parametrize("name", RIVALS)
def test_every_rival_loads_alone_and_is_realigned_in_its_connectors_alone(
    name: str, rivals: dict[str, Path], output: Path, overrides: list[str], tmp_path: Path
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(rivals[name].parents[1] / "stages", copy / "stages")
    bare = mera.run("world", copy, [*overrides, RIVALS[name], "realign=null"])
    first, before, after = weights(stages(output)[0]), weights(bare), weights(rivals[name])
    # replay updates all it can (section 4.3); no other rival has anything to train an older connector on
    moved = fingerprint(first, "connectors.depth") != fingerprint(before, "connectors.depth")
    assert moved == (name == "replay")
    assert before.keys() == after.keys()
    for part in ("language_model", "lm_head", "encoders"):
        assert fingerprint(before, part) == fingerprint(after, part)
    for sense in ("depth", "audio"):
        assert fingerprint(before, f"connectors.{sense}") != fingerprint(after, f"connectors.{sense}")


@pytest.mark.parametrize("name", ["ewc", "pathweave"])
def test_a_run_killed_in_the_joint_phase_ends_with_the_same_bits(
    name: str, rivals: dict[str, Path], output: Path, overrides: list[str], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    copy = tmp_path / "copy"
    shutil.copytree(output / "stages", copy / "stages")

    def leave(state: Any) -> None:
        if state.folder.name == "joint" and state.step == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(mera_stage, "train", partial(train, hooks=Hooks(on_step_end=leave)))
        mera.run("world", copy, [*overrides, RIVALS[name]])
    work = copy / "training" / rivals[name].name
    assert sorted(path.name for path in (work / "joint" / "checkpoints").iterdir()) == ["step-00000001"]
    second = mera.run("world", copy, [*overrides, RIVALS[name]])
    assert [line["step"] for line in events(work / "joint" / "log.jsonl") if line["event"] == "start"] == [0, 1]
    wanted, found = weights(rivals[name]), weights(second)
    assert wanted.keys() == found.keys() and all(torch.equal(found[key], weight) for key, weight in wanted.items())


def test_a_method_that_is_not_there_is_named_before_anything_is_built(overrides: list[str], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="method: name: there is no learning method 'ewk'"):
        mera.run("world", tmp_path, [*overrides, "method={name: ewk}"])
    assert not list(tmp_path.iterdir())


def test_a_stage_without_its_sense_or_data_is_named(overrides: list[str], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="stages: video"):
        mera.run("world", tmp_path, [*overrides, "stages=[depth, video]"])
