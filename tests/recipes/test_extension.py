"""Further senses for a stage of another run, and for a LLaVA that was taken over."""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from polysense.continual import stage_folders
from polysense.continual.stage_adapter import read_adapters
from polysense.errors import CheckpointError, ConfigError
from polysense.merging import effective_weight
from polysense.models.mera import MeraForConditionalGeneration, MeraProcessor
from polysense.models.unialign import UniAlignModel, UniAlignProcessor
from polysense.nn.adapter_in_adapter import AdapterOptions
from polysense.recipes import mera
from polysense.recipes.config import read_config
from polysense.recipes.extension import Start, open_start
from polysense.recipes.mera import MeraRecipe, MeraRun
from polysense.storage import MANIFEST
from polysense.testing import tiny_llama, tiny_llava
from tests.models.mera.saved import as_snapshot, write_mera
from tests.models.mera.test_processing_mera import llava_processor
from tests.recipes.fixtures import Parts

MANIFESTS = {"image": "stills", "depth": "stills", "video": "clips"}


def overrides(parts: Parts, sense: str, *replayed: str, encoder: str | Path = "image") -> list[str]:
    """The world's recipe, tiny, with one stage; `replayed` senses have data sets as well."""
    data = [f"{name}: {{modality: {name}, data: {{manifest: manifests/{MANIFESTS[name]}-train.jsonl, limit: 8}}}}"
            for name in (sense, *replayed)]  # fmt: skip
    tests = [f"{name}: {{modality: {name}, data: {{manifest: manifests/{MANIFESTS[name]}-test.jsonl}}}}"
             for name in (sense, *replayed)]  # fmt: skip
    phases = [f"{phase}.{key}" for phase in ("connector", "joint", "realign")
              for key in ("batch_size=4", "steps=2", "epochs=null")]  # fmt: skip
    return [
        f"data_root={parts.world}", "world.size=tiny", "world.difficulty=standard",
        f"senses={{{sense}: {{encoder: {encoder}}}}}", "llm=''",
        f"sources={{{', '.join(data)}}}", f"evaluation.tests={{{', '.join(tests)}}}", f"stages=[{sense}]",
        "adapter.rank=2", "adapter.alpha=4.0",
        "realign.replay=0.5", "loop.save_every=1", "loop.log_every=1", "loop.loader_workers=0", *phases,
    ]  # fmt: skip


def weights(folder: Path) -> dict[str, Tensor]:
    return dict(MeraForConditionalGeneration.from_pretrained(folder).state_dict())


@pytest.fixture(scope="module")
def llava(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_mera(tmp_path_factory.mktemp("start") / "llava")


@pytest.fixture(scope="module")
def second(parts: Parts, llava: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The stage in which the LLaVA learns films through its own tower, and pictures are realigned."""
    return mera.run("world", tmp_path_factory.mktemp("run"), overrides(parts, "video", "image"), start=llava)


def test_a_llava_is_the_first_stage_and_the_merge_computes_from_its_weights(llava: Path, second: Path) -> None:
    assert second.name.startswith("stage-2-video-")
    model, processor = MeraForConditionalGeneration.from_pretrained(second), MeraProcessor.from_pretrained(second)
    assert set(model.modalities) == set(processor.modalities) == {"image", "video"}
    assert len(model.model.encoders) == 1, "the new sense goes through the LLaVA's tower"
    (adapter,) = read_adapters(second)
    assert (adapter.stage, adapter.coefficient) == (2, 0.5)
    before, after = weights(llava), weights(second)
    for key, weight in before.items():
        if key in adapter.factors:
            assert torch.equal(after[key], effective_weight(weight, [adapter.scaled(key)])), key
            assert not torch.equal(after[key], weight)
        elif "connectors.image" in key:
            assert not torch.equal(after[key], weight), "pictures are realigned"
        else:
            assert torch.equal(after[key], weight), key
    record = json.loads((second / "stage.json").read_text())
    assert (record["stage"], record["parent"], record["base_model"]["name"]) == (2, "llava", "llava")
    assert not (second.parents[1] / "llama").exists(), "the language model of the recipe is not looked at"


def test_a_stage_is_extended_by_another_run_and_keeps_its_adapters(
    parts: Parts, second: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    UniAlignModel.from_clip(parts.anchor, ["depth"]).save_pretrained(tmp_path / "encoder")
    UniAlignProcessor.from_clip(parts.anchor, ["depth"]).save_pretrained(tmp_path / "encoder")
    run, recipe = tmp_path / "run", overrides(parts, "depth", encoder=tmp_path / "encoder")
    with caplog.at_level(logging.WARNING):
        third = mera.run("world", run, recipe, start=second)
    assert third.name.startswith("stage-3-depth-") and third.parents[1] == run
    assert [each.stage for each in read_adapters(third)] == [2, 3]
    before, after = weights(second), weights(third)
    adapter = read_adapters(third)[1]
    for key in adapter.factors:
        assert torch.equal(after[key], effective_weight(before[key], [adapter.scaled(key)]))
    for sense in ("image", "video"):
        assert f"{sense} has no data set under sources: it is not realigned" in caplog.text
        assert all(torch.equal(after[key], before[key]) for key in before if f"connectors.{sense}" in key)
    written = (third / "model.safetensors").stat().st_mtime_ns
    assert mera.run("world", run, recipe, start=second) == third
    assert (third / "model.safetensors").stat().st_mtime_ns == written


def test_a_sense_that_has_anothers_encoder_lends_it_to_a_third(parts: Parts, tmp_path: Path) -> None:
    senses = ["video", "point_cloud", "depth"]
    UniAlignModel.from_clip(parts.anchor, senses).save_pretrained(tmp_path / "encoder")
    UniAlignProcessor.from_clip(parts.anchor, senses).save_pretrained(tmp_path / "encoder")
    start = write_mera(tmp_path / "start")
    model, processor = MeraForConditionalGeneration.from_pretrained(start), MeraProcessor.from_pretrained(start)
    for sense, encoder in (("video", tmp_path / "encoder"), ("point_cloud", "video")):
        model.add_modality(sense, encoder, "mlp", tokenizer=processor.tokenizer)
        processor.add_modality(model.config.senses[sense].modality, model.token_layout(sense))
    model.save_pretrained(start)
    processor.save_pretrained(start)
    recipe = read_config(MeraRecipe, "mera", "world", overrides(parts, "depth", encoder="point_cloud"))
    extended, _ = MeraRun(recipe, tmp_path / "run", open_start(start)).begin(start, "depth")
    assert {extended.config.senses[sense].encoder for sense in senses} == {"video"}


def test_a_llava_of_hugging_face_is_the_first_stage_as_it_is(parts: Parts, tmp_path: Path) -> None:
    hf, run = tmp_path / "llava", tmp_path / "run"
    llava: Any = tiny_llava()
    llava.save_pretrained(hf)
    recipe = overrides(parts, "video", "image")
    with pytest.raises(CheckpointError, match="llava: the model has no processor"):
        mera.run("world", run, recipe, start=hf)
    llava_processor().save_pretrained(hf)
    with pytest.raises(ConfigError, match="stages: llava has learned image already"):
        mera.run("world", run, overrides(parts, "image"), start=hf)
    with pytest.raises(ConfigError, match=r"llava/.*: the stage has no adapter of its own that EWC could go on from"):
        mera.run("world", run, [*recipe, "method={name: ewc}"], start=hf)
    assert not run.exists()
    before = {path.name: path.read_bytes() for path in hf.iterdir()}
    second = mera.run("world", run, recipe, start=hf)
    assert second.name.startswith("stage-2-video-")
    assert {path.name: path.read_bytes() for path in hf.iterdir()} == before
    taken: Any = MeraForConditionalGeneration.from_pretrained(run / "start" / "llava")
    ids, pictures = torch.tensor([[1, *[95] * 16, 8, 9]]), torch.randn(1, 3, 32, 32)
    given = {"input_ids": ids, "pixel_values": pictures}
    with torch.no_grad():
        assert torch.equal(taken.eval()(**given).logits, llava(**given).logits)
    assert set(MeraProcessor.from_pretrained(second).modalities) == {"image", "video"}
    record = json.loads((second / "stage.json").read_text())
    assert (record["parent"], record["base_model"]["name"]) == ("llava", "llava")
    written = (run / "start" / "llava" / "model.safetensors").stat().st_mtime_ns
    assert mera.run("world", run, recipe, start=hf) == second
    assert (run / "start" / "llava" / "model.safetensors").stat().st_mtime_ns == written


def test_another_llava_of_the_same_name_is_taken_over_anew(tmp_path: Path) -> None:
    for seed in (0, 1):
        hf = tmp_path / str(seed) / "llava"
        llava: Any = tiny_llava(seed)
        llava.save_pretrained(hf)
        llava_processor().save_pretrained(hf)
        start = open_start(hf).taken_over(tmp_path / "run")
        assert start.folder == tmp_path / "run" / "start" / "llava" and not start.is_llava
        assert torch.equal(weights(start.folder)["lm_head.weight"], llava.state_dict()["lm_head.weight"])
        assert start.taken_over(tmp_path / "run") is start


def test_a_sense_that_is_known_and_a_merge_that_needs_the_beginning_are_refused(
    parts: Parts, llava: Path, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=r"world: stages: llava has learned image already"):
        mera.run("world", tmp_path / "run", overrides(parts, "image"), start=llava)
    with pytest.raises(ConfigError, match=r"merge: merge method 'ties' needs the language model before"):
        mera.run("world", tmp_path / "run", [*overrides(parts, "video"), "merge=ties"], start=llava)
    for method, name in (("ewc", "EWC"), ("pathweave", "PathWeave")):
        rival = [*overrides(parts, "video", "image"), f"method={{name: {method}}}"]
        with pytest.raises(ConfigError, match=f"stage-1: the stage has no adapter of its own that {name} could go on"):
            mera.run("world", tmp_path / "run", rival, start=llava)
    assert not (tmp_path / "run").exists()


def test_a_chain_of_pathweave_is_extended_by_pathweave_alone(parts: Parts, tmp_path: Path) -> None:
    start = write_mera(tmp_path / "paths")
    model = MeraForConditionalGeneration.from_pretrained(start)
    model.add_adapters(["layers.0.mlp.up_proj", "layers.1.mlp.up_proj"], AdapterOptions(rank=2))
    model.add_path("image")
    model.save_pretrained(start)
    asked = overrides(parts, "video", "image")
    with pytest.raises(ConfigError, match="paths: the language model has PathWeave's adapters, which no LoRA can"):
        mera.run("world", tmp_path / "run", asked, start=start)
    assert not (tmp_path / "run").exists()
    stage = mera.run("world", tmp_path / "run", [*asked, "method={name: pathweave}"], start=start)
    after = MeraForConditionalGeneration.from_pretrained(stage)
    assert after.config.adapters is not None and after.config.adapters["paths"] == ["image", "video"]


def test_a_published_stage_is_extended_from_the_hubs_cache(
    parts: Parts, second: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    snapshot = as_snapshot(second, tmp_path / "cache")
    monkeypatch.setattr("polysense.models.base.snapshot_download", lambda *_, **__: str(snapshot))
    start = open_start("me/my-mera")
    assert (start.folder, start.stage) == (snapshot, 2)
    run = MeraRun(read_config(MeraRecipe, "mera", "world", overrides(parts, "depth")), tmp_path / "run", start)
    folders = stage_folders(run.stages, run.output, common={}, **start.place)
    assert folders[0].name.startswith("stage-3-depth-")
    assert set(MeraForConditionalGeneration.from_pretrained(start.folder).modalities) == {"image", "video"}
    assert [each.stage for each in read_adapters(start.folder)] == [2]


def test_what_is_recorded_of_a_start_is_told_before_its_weights_are_read(
    llava: Path, second: Path, tmp_path: Path
) -> None:
    assert open_start(llava) == Start(llava, 1, ("image",), {"name": "llava", "license": "see its card"})
    start = open_start(second)
    assert (start.stage, set(start.senses), start.base_model["name"]) == (2, {"image", "video"}, "llava")
    assert start.place == {"start": second, "first": 3}
    renamed, record = tmp_path / "stage", json.loads((second / "stage.json").read_text())
    shutil.copytree(second, renamed)
    (renamed / MANIFEST).unlink()
    (renamed / "stage.json").write_text(json.dumps({**record, "trained": ["image"]}))
    assert open_start(second).senses[-1] == "video" and open_start(renamed).senses == ("video", "image")
    any_model: Any = tiny_llama()
    any_model.save_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match="not of MERA"):
        open_start(tmp_path)


@pytest.mark.parametrize("place", ["start", "start/runs/more"])
def test_a_run_within_its_start_is_refused_before_it_writes(tmp_path: Path, place: str) -> None:
    """Its files would count as the start's, and a run that goes on would find another start."""
    folder, recipe = write_mera(tmp_path / "start"), ["senses={depth: {encoder: image}}", "stages=[depth]"]
    data = ["sources={depth: {modality: depth, data: {manifest: nowhere.jsonl}}}", f"data_root={tmp_path / 'world'}"]
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(ConfigError, match=f"{place}: a run within .*start, which it goes on from, would change that"):
        mera.run("world", tmp_path / place, [*recipe, *data], start=folder)
    assert sorted(tmp_path.rglob("*")) == before
