"""Whole recipes on a tiny world: stages, resume, what stays as it was."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from transformers import AutoModel, AutoProcessor

from polysense.data import Manifest
from polysense.errors import ConfigError, FolderInUseError
from polysense.models.unialign import UniAlignModel, UniAlignProcessor
from polysense.recipes import unialign
from polysense.recipes.config import build, read_config
from polysense.recipes.sources import WorldSettings
from polysense.recipes.unialign import UniAlignRecipe, UniAlignRun
from polysense.trainer import FolderLock, Hooks, LoopState, train
from tests.recipes.fixtures import SENSES, Parts, events, losses, stages


def embeddings(folder: Path, world: Path, sense: str) -> torch.Tensor:
    """Of the first test samples, by a stage loaded through the Auto classes."""
    model, processor = AutoModel.from_pretrained(folder).eval(), AutoProcessor.from_pretrained(folder)
    kind = "clips" if sense in {"video", "audio"} else "stills"
    manifest = Manifest(world / f"manifests/{kind}-test.jsonl", root=world)
    refs = [manifest[row].ref(sense) for row in range(2)]
    features = processor.features(sense, [ref.open() for ref in refs], facts=[ref.facts for ref in refs])
    with torch.no_grad():
        return torch.as_tensor(model.embed(sense, features))


def weights(folder: Path) -> str:
    return hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()


def test_every_stage_is_a_folder_that_the_auto_classes_load(incremental: Path, parts: Parts) -> None:
    names = [folder.name for folder in stages(incremental)]
    assert names == ["stage-1-anchor", "stage-2-depth", "stage-3-point-cloud", "stage-4-video", "stage-5-audio"]
    last = stages(incremental)[-1]
    model, processor = AutoModel.from_pretrained(last), AutoProcessor.from_pretrained(last)
    assert isinstance(model, UniAlignModel) and set(model.modalities) == {"image", "text", *SENSES}
    assert isinstance(processor, UniAlignProcessor) and processor.templates["audio"][0] == "the sound of {}"
    assert torch.equal(embeddings(last, parts.world, "audio"), embeddings(last, parts.world, "audio"))


def test_the_joint_recipe_is_one_stage_with_all_senses(joint: Path) -> None:
    record = json.loads((stages(joint)[1] / "stage.json").read_text())
    assert record["trained"] == list(SENSES) and record["steps"] == 5 and record["parent"] == "stage-1-anchor"
    assert {source["name"] for source in record["data"]} == set(SENSES)
    assert all(trained == 0 for name, (_, trained) in record["parameters"].items() if name == "base")


@pytest.mark.parametrize("run", ["joint", "incremental"])
def test_an_image_embedding_of_the_anchor_keeps_every_bit(
    run: str, parts: Parts, request: pytest.FixtureRequest
) -> None:
    first, *rest = [embeddings(folder, parts.world, "image") for folder in stages(request.getfixturevalue(run))]
    assert all(torch.equal(first, each) for each in rest)


def test_a_later_stage_leaves_the_earlier_senses_as_they_were(incremental: Path, parts: Parts) -> None:
    learned = embeddings(stages(incremental)[1], parts.world, "depth")
    assert torch.equal(learned, embeddings(stages(incremental)[-1], parts.world, "depth"))


def test_the_run_folder_holds_the_resolved_config(incremental: Path) -> None:
    recipe = build(UniAlignRecipe, yaml.safe_load((incremental / "config.yaml").read_text()), "config.yaml")
    assert [stage.name for stage in recipe.stages] == ["depth", "point-cloud", "video", "audio"]
    assert recipe.loop.steps == 5 and recipe.sources["audio"].batch_size == 4


def test_later_stages_bind_to_the_classes_of_earlier_senses(incremental: Path) -> None:
    terms = {
        folder.name: set(events(folder / "log.jsonl")[1]["losses"]) for folder in (incremental / "training").iterdir()
    }
    assert terms["stage-2-depth"] == {"depth/nce_image", "depth/nce_text"}  # nothing to bind to yet
    assert terms["stage-5-audio"] == {"audio/nce_text", "audio/soft_bind"}  # and no image to align with


def test_metrics_hold_every_sense_with_command_seed_and_commit(joint: Path) -> None:
    metrics = json.loads((stages(joint)[1] / "metrics.json").read_text())
    assert {"command", "commit", "seed"} <= set(metrics)
    scored = {(result["task"], result["modality"]) for result in metrics["results"]}
    assert {("zero-shot classification", sense) for sense in SENSES} <= scored
    assert ("retrieval audio+video to text", "audio+video") in scored
    for result in metrics["results"]:
        assert 0 <= result["low"] <= result["value"] + 1e-9 and result["value"] <= result["high"] + 1e-9


class Interrupted(Exception):
    """Stands for a kill."""


def test_an_interrupted_run_goes_on_to_the_same_weights(
    joint: Path, parts: Parts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = train

    def killed(*arguments: Any, hooks: Hooks) -> Any:
        def stop(state: LoopState) -> None:
            if state.step == 3:
                raise Interrupted

        return plain(*arguments, hooks=Hooks(on_step_end=stop, on_stage_end=hooks.on_stage_end))

    with monkeypatch.context() as patch:
        patch.setattr(unialign, "train", killed)
        with pytest.raises(Interrupted):
            unialign.run("world", tmp_path, parts.overrides())
    unialign.run("world", tmp_path, parts.overrides())
    log = events(tmp_path / "training/stage-2-all-senses/log.jsonl")
    assert [line["step"] for line in log if line["event"] == "start"] == [0, 2]
    assert weights(stages(tmp_path)[1]) == weights(stages(joint)[1])


def test_what_is_finished_is_not_done_again(
    joint: Path, parts: Parts, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    before = {path: path.stat().st_mtime_ns for path in (joint / "stages").rglob("*")}
    monkeypatch.setattr(unialign, "train", lambda *_, **__: pytest.fail("trained again"))
    assert unialign.run("world", joint, parts.overrides()) == stages(joint)[1]
    assert not caplog.messages
    assert (
        unialign.run("world", joint, parts.overrides("loop.learning_rate=1.0", "loop.log_every=7")) == stages(joint)[1]
    )
    told = [message for message in caplog.messages if "kept as it was made" in message]
    assert [message.split()[0] for message in told] == ["stage-1-anchor", "stage-2-all-senses"]
    assert all("hyperparameters.loop.learning_rate = 0.004, which is now 1.0" in message for message in told)
    assert before == {path: path.stat().st_mtime_ns for path in (joint / "stages").rglob("*")}


def test_a_begun_stage_tells_what_it_goes_on_with(
    joint: Path, parts: Parts, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = half_done(joint, tmp_path)
    unialign.run("world", run, parts.overrides("objective.soft_bind=0.5", "loop.log_every=7", "cache_mib=1"))
    told = [message for message in caplog.messages if "was last started with" in message]
    assert [message.split(" was last started with ")[1] for message in told] == [
        "cache_mib = 3072, which is now 1", "objective.soft_bind = 1.0, which is now 0.5",
    ]  # fmt: skip


def half_done(run: Path, target: Path) -> Path:
    """A copy of a run whose last stage is yet to be saved."""
    half = shutil.copytree(run, target / "half")
    shutil.rmtree(stages(half)[-1])
    return half


def test_options_of_the_model_cannot_change_on_the_way(joint: Path, parts: Parts, tmp_path: Path) -> None:
    run = half_done(joint, tmp_path)
    before = (run / "config.yaml").read_bytes()
    with pytest.raises(ConfigError, match=r"model: stage-1-anchor: top_k.* is 1, and None in the checkpoint"):
        unialign.run("world", run, parts.overrides("model.top_k=1"))
    assert (run / "config.yaml").read_bytes() == before and not (run / "stages/stage-2-all-senses").exists()


def test_a_run_that_is_refused_leaves_the_config_of_the_other(joint: Path, parts: Parts, tmp_path: Path) -> None:
    run = half_done(joint, tmp_path)
    before = (run / "config.yaml").read_bytes()
    with FolderLock(run), pytest.raises(FolderInUseError, match="is writing to this folder"):
        unialign.run("world", run, parts.overrides("seed=5"))
    assert (run / "config.yaml").read_bytes() == before
    with FolderLock(joint):
        assert unialign.run("world", joint, parts.overrides()) == stages(joint)[1], "nothing is left to write"


def test_a_checkpoint_can_be_the_anchor_and_learn_a_further_sense(joint: Path, parts: Parts, tmp_path: Path) -> None:
    stage = "stages=[{name: speech, trains: [speech]}]"
    source = "sources.speech={modality: speech, batch_size: 4, data: {manifest: manifests/train-speech.jsonl}}"
    speak(parts.world)
    start = stages(joint)[1]
    folder = unialign.run(
        "world", tmp_path, parts.overrides(f"anchor={start}", stage, source, "evaluation.splits={}", steps=2)
    )
    model = AutoModel.from_pretrained(folder)
    assert set(model.modalities) == {"image", "text", *SENSES, "speech"}
    assert torch.equal(embeddings(folder, parts.world, "depth"), embeddings(start, parts.world, "depth"))
    assert set(events(tmp_path / "training/stage-2-speech/log.jsonl")[1]["losses"]) >= {"speech/soft_bind"}
    with pytest.raises(ConfigError, match=r"num_experts is 3, and 2 in the checkpoint"):
        unialign.run(
            "world", tmp_path / "other", parts.overrides(f"anchor={start}", stage, source, "model.num_experts=3")
        )


def test_settings_that_a_checkpoint_has_already_are_told_to_change_nothing(
    joint: Path, parts: Parts, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    speak(parts.world)
    common = [f"anchor={stages(joint)[1]}", "stages=[{name: speech, trains: [speech]}]", "evaluation.splits={}",
              "sources.speech={modality: speech, data: {manifest: manifests/train-speech.jsonl}}"]  # fmt: skip

    def told(*overrides: str) -> list[str]:
        caplog.clear()
        recipe = read_config(UniAlignRecipe, "unialign", "world", parts.overrides(*common, *overrides))
        work = UniAlignRun(recipe, tmp_path)
        assert "speech" not in work.begin()[0].modalities
        return [line.getMessage() for line in caplog.records if "changes nothing" in line.getMessage()]

    assert told() == [] == told("senses.speech.processor.mel_bins=64")
    changes = {
        "augmentation.crop_scale=[0.25, 1.0]": "augmentation.crop_scale = [0.25, 1.0]",
        "image_templates=['one {}']": "image_templates = ['one {}']",
        "senses.depth.processor.camera=nyu": "senses.depth.processor.camera = 'nyu' changes nothing: stage-2-",
        "senses.depth.templates=['a {}']": "senses.depth.templates = ['a {}']",
    }
    found = told(*changes)
    assert len(found) == len(changes)
    assert all(any(line.startswith(each) for line in found) for each in changes.values())


def test_a_run_folder_that_cannot_be_written_is_told_before_a_world_is_built(
    parts: Parts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(WorldSettings, "build", lambda *_: pytest.fail("the world was built"))
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match=r"file/run: it cannot be written"):
        unialign.run("world", tmp_path / "file/run", parts.overrides())


def speak(world: Path) -> None:
    """A manifest in which the sounds of clips pass for speech."""
    rows = [json.loads(line) for line in (world / "manifests/train-audio.jsonl").read_text().splitlines()]
    for row in rows:
        row["media"], row["labels"] = {"speech": row["media"]["audio"]}, {"speech": row["labels"]["audio"]}
    (world / "manifests/train-speech.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.mark.parametrize(
    "override", ["loop.mixed_precision=bf16", "model.routing=global", "model.image_experts=true",
                 "model.image_tokenized=[depth]"],
)  # fmt: skip
def test_variants_of_the_model_train(override: str, parts: Parts, tmp_path: Path) -> None:
    shorter = ["stages=[{name: two, trains: [depth, audio]}]", "evaluation.splits={}"]
    folder = unialign.run("world", tmp_path, parts.overrides(override, *shorter, steps=2))
    values = losses(tmp_path)["stage-2-two"]
    assert len(values) == 2 and all(value == value and value > 0 for value in values)
    assert AutoModel.from_pretrained(folder).config.modalities.keys() == {"depth", "audio"}


def test_a_unified_text_path_trains_with_its_stage_and_labels_follow_it(parts: Parts, tmp_path: Path) -> None:
    shorter = ["stages=[{name: two, trains: [depth, audio, text]}, {name: video, trains: [video]}]",
               "evaluation.splits={}", "objective.soft_bind=0", "objective.nce_image=0"]  # fmt: skip
    unialign.run("world", tmp_path, parts.overrides("model.unified_text=true", *shorter, steps=12))
    folders = stages(tmp_path)
    start, trained, later = [UniAlignModel.from_pretrained(folder) for folder in folders]
    changed = {name for name, value in trained.state_dict().items()
               if name in start.state_dict() and not torch.equal(value, start.state_dict()[name])}  # fmt: skip
    assert any(name.startswith("tokenizers.text") for name in changed)
    assert any(".groups.text." in name for name in changed)
    texts = UniAlignProcessor.from_pretrained(folders[1]).features("text", ["a red ball", "a blue box"])
    first, second, third = [model.eval().embed("text", texts).detach() for model in (start, trained, later)]
    assert not torch.allclose(first, second, atol=1e-4) and torch.equal(second, third)
    values = losses(tmp_path)["stage-2-two"]
    assert sum(values[-4:]) < sum(values[:4])


def test_senses_of_one_stage_share_experts_under_global_routing(parts: Parts, tmp_path: Path) -> None:
    """Eq. 6 in a joint phase; a sense that is added later leaves the older ones as they were."""
    both, later = "[{name: two, trains: [depth, audio]}]", "{name: video, trains: [video]}"
    folders = {}
    for routing in ("group", "global"):
        overrides = [f"model.routing={routing}", f"stages={both[:-1]}, {later}]", "evaluation.splits={}"]
        unialign.run("world", tmp_path / routing, parts.overrides(*overrides, steps=3))
        folders[routing] = stages(tmp_path / routing)
    grouped, shared = [embeddings(folders[routing][1], parts.world, "depth") for routing in ("group", "global")]
    assert not torch.allclose(grouped, shared, atol=1e-5)
    assert torch.equal(shared, embeddings(folders["global"][2], parts.world, "depth"))
    assert AutoModel.from_pretrained(folders["global"][2]).config.visible_groups == {
        "audio": ["audio", "depth"], "depth": ["audio", "depth"], "video": ["audio", "depth", "video"],
    }  # fmt: skip


def test_epochs_count_the_longest_source(parts: Parts, tmp_path: Path) -> None:
    stage = "stages=[{name: depth, trains: [depth], epochs: 2}]"
    folder = unialign.run("world", tmp_path, parts.overrides(stage, "evaluation.splits={}"))
    samples = len(Manifest(parts.world / "manifests/train-depth.jsonl", root=parts.world))
    assert json.loads((folder / "stage.json").read_text())["steps"] == 2 * -(-samples // 4)


def test_the_supervised_bound_is_trained_once(parts: Parts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stage = "stages=[{name: depth, trains: [depth]}]"
    folder = unialign.run("world", tmp_path, parts.overrides(stage, "bounds=2", steps=1))
    bound = json.loads((tmp_path / "bounds/depth.json").read_text())
    assert 0 <= bound["top1"] <= 1 and bound["count"] > 0
    results = json.loads((folder / "metrics.json").read_text())["results"]
    assert {each["upper_bound"] for each in results if (each["modality"], each["metric"]) == ("depth", "top1")} == {
        bound["top1"]
    }


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["loop.step=3"], r"world\.yaml: loop: unknown key 'step'\. Did you mean 'steps'"),
        (["loop.learning_rate=2e-4"], r"loop: learning_rate: '2e-4' is not float\. .*write 2\.0e-4"),
        (["loop.steps=0"], r"loop: steps is 0"),
        (["bounds=-1"], r"world\.yaml: bounds is -1"),
        (["stages=[{name: depth, trains: [depth], steps: -1}]"], r"stages\[0\]: steps is -1 and epochs is 0"),
        (["stages=[{name: depth, trains: [depth], steps: 1, epochs: 1}]"], r"stages\[0\]: steps is 1 and epochs is 1"),
        (["sources.depth.batch_size=0"], r"sources: depth: batch_size is 0"),
        (["sources.depth.data.limit=0"], r"sources: depth: data: limit is 0"),
        (["evaluation.limit=0"], r"evaluation: limit is 0"),
        (["evaluation.pool=0"], r"evaluation: pool is 0"),
        (["evaluation.ks=[0, 5]"], r"evaluation: ks is \[0, 5\]"),
        (["stages=[{name: smell, trains: [smell]}]"], r"world: stages: smell: no source trains 'smell'"),
        (["stages=[{name: a/b, trains: [depth]}]"], r"stages: a/b: the stage has no name"),
        (["stages=[{name: smell, trains: [smell]}]",
          "sources.smell={modality: smell, data: {manifest: manifests/train-depth.jsonl}}"],
         r"senses: smell: modality 'smell' is not registered"),
        (["sources.depth.data.manifest=manifests/none.jsonl"], r"sources: depth: data: .*none\.jsonl: there is no"),
        (["sources.depth.data={parquet: [none/*.parquet], columns: {media: {depth: depth}}}"],
         r"sources: depth: data: .*none/\*\.parquet: there is no such parquet file"),
        (["sources.depth.data={}"], r"sources: depth: data: a data set needs exactly one of"),
        (["evaluation.splits.test=[{manifest: none.jsonl}]"], r"evaluation: splits: test\[0\]: .*none\.jsonl"),
        (["model.num_expert=3"], r"model: unknown key 'num_expert'\. Did you mean 'num_experts'"),
        (["model.num_experts=two"], r"model: .*num_experts.*expected int"),
        (["model.image_tokenized=[smell]"], r"model: image_tokenized names \['smell'\]"),
        (["senses.audio.processor.secnods=3"], r"senses: audio: AudioProcessor has no options \['secnods'\]"),
        (["senses.audio.templates=[the sound]"], r"senses: audio: templates: the template 'the sound' has no \{\}"),
        (["augmentation.crop=3"], r"augmentation.*has no options \['crop'\]"),
        (["anchor=nowhere"], r"nowhere.*shipped names: clip"),
    ],
)  # fmt: skip
def test_what_cannot_work_is_refused_before_anything_is_written(
    overrides: list[str], message: str, parts: Parts, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=message):
        unialign.run("world", tmp_path / "run", parts.overrides(*overrides))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("key", ["sources.depth.data.manifest={}", "evaluation.splits.test=[{{manifest: {}}}]"])
def test_a_damaged_row_is_named_before_anything_trains(key: str, parts: Parts, tmp_path: Path) -> None:
    (tmp_path / "broken.jsonl").write_text('{"id": \n')
    broken = os.path.relpath(tmp_path / "broken.jsonl", parts.world)
    with pytest.raises(ConfigError, match=r"(sources: depth: data|splits: test\[0\]): .*line 1: the row is not JSON"):
        unialign.run("world", tmp_path / "run", parts.overrides(key.format(broken)))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("sense", ["image", "depth"])
def test_a_missing_file_of_the_evaluation_is_named_before_anything_trains(
    sense: str, parts: Parts, tmp_path: Path
) -> None:
    world = shutil.copytree(parts.world, tmp_path / "world")
    last = Manifest(world / "manifests/stills-test.jsonl", root=world)[-1]
    Path(str(last.media[sense].source)).unlink()
    with pytest.raises(ConfigError, match=rf"splits: test\[0\]: {last.id}: media\.{sense}: .* does not exist"):
        unialign.run("world", tmp_path / "run", parts.overrides(f"data_root={world}"))
    assert not (tmp_path / "run").exists()


def test_tokenizer_options_that_do_not_fit_the_anchor_are_refused_at_the_start(parts: Parts, tmp_path: Path) -> None:
    overrides = parts.overrides("senses.depth.tokenizer.patch_size=64", "stages=[{name: depth, trains: [depth]}]")
    with pytest.raises(ConfigError, match=r"model: depth: patch 64"):
        unialign.run("world", tmp_path, overrides)
    assert not (tmp_path / "stages").exists()


def test_terms_of_weight_zero_are_not_computed(parts: Parts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("polysense.trainer.unialign.soft_binding", lambda *_: pytest.fail("computed"))
    overrides = parts.overrides("objective.soft_bind=0", "stages=[{name: two, trains: [depth, audio]}]", steps=1)
    unialign.run("world", tmp_path, [*overrides, "evaluation.splits={}"])


def test_a_run_knows_the_sources_of_its_stages(parts: Parts, tmp_path: Path) -> None:
    recipe = read_config(UniAlignRecipe, "unialign", "world", parts.overrides())
    work = UniAlignRun(recipe, tmp_path)
    assert work.sources_of(["audio", "depth"]) == ["depth", "audio"] and work.sources_of(["image"]) == []
