"""Every shipped YAML: it loads, it runs, and five steps of it give the losses they gave before."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import torch
from transformers import AutoModel, CLIPConfig

from polysense.models.unialign import UniAlignConfig, UniAlignModel
from polysense.recipes import anchors, unialign
from polysense.recipes.anchors import AnchorRecipe
from polysense.recipes.comet_config import CometRecipe
from polysense.recipes.comet_downstream import DownstreamSettings
from polysense.recipes.config import read_config, recipe_folder
from polysense.recipes.feature_pairs import PairRecipe
from polysense.recipes.features import FeatureRecipe
from polysense.recipes.llama_anchor import LlamaRecipe
from polysense.recipes.mera import MeraRecipe
from polysense.recipes.unialign import UniAlignRecipe
from tests.recipes.fixtures import Parts, losses, stages
from tests.training.samples import write_paper_data

TRAINING = Path(__file__).parents[2] / "training"
CONFIGS: dict[str, type] = {
    "anchors/clip.yaml": AnchorRecipe,
    "anchors/clip-demo.yaml": AnchorRecipe,
    "anchors/llama.yaml": LlamaRecipe,
    "anchors/llama-demo.yaml": LlamaRecipe,
    "comet/demo.yaml": CometRecipe,
    "comet/paper.yaml": CometRecipe,
    "comet/world.yaml": CometRecipe,
    "comet/world-long.yaml": CometRecipe,
    "comet/world-unialign.yaml": CometRecipe,
    "comet/downstream-paper.yaml": DownstreamSettings,
    "comet/downstream-world.yaml": DownstreamSettings,
    "comet/segmentation-world.yaml": DownstreamSettings,
    "comet/features.yaml": FeatureRecipe,
    "comet/pairs.yaml": PairRecipe,
    "comet/pairs-paper.yaml": PairRecipe,
    "mera/demo.yaml": MeraRecipe,
    "mera/paper.yaml": MeraRecipe,
    "mera/smollm.yaml": MeraRecipe,
    "mera/world.yaml": MeraRecipe,
    "unialign/demo.yaml": UniAlignRecipe,
    "unialign/paper.yaml": UniAlignRecipe,
    "unialign/world-incremental.yaml": UniAlignRecipe,
    "unialign/world.yaml": UniAlignRecipe,
}
STORED = Path(__file__).parent / "losses.json"
PAPER_SENSES = ("image", "point_cloud", "depth", "audio", "video")


def check_losses(name: str, output: Path) -> None:
    """Compare with `losses.json`; `POLYSENSE_WRITE_LOSSES=1` writes it anew."""
    found = losses(output)
    stored = json.loads(STORED.read_text()) if STORED.exists() else {}
    if os.environ.get("POLYSENSE_WRITE_LOSSES"):
        STORED.write_text(json.dumps({**stored, name: found}, indent=1, sort_keys=True) + "\n")
    else:
        assert found.keys() == stored[name].keys() and all(len(values) == 5 for values in found.values())
        for training, values in found.items():
            assert values == pytest.approx(stored[name][training], rel=1e-4), training


def test_every_yaml_under_training_is_known() -> None:
    assert recipe_folder() == TRAINING
    found = {str(path.relative_to(TRAINING)) for path in TRAINING.rglob("*.y*ml")}
    assert len(found) > 0 and found == set(CONFIGS)


@pytest.mark.parametrize("name", sorted(CONFIGS))
def test_every_config_loads_into_its_dataclass(name: str) -> None:
    recipe: object = read_config(CONFIGS[name], Path(name).parts[0], TRAINING / name)
    assert recipe == read_config(CONFIGS[name], Path(name).parts[0], Path(name).stem)


def test_the_anchor_recipe_repeats_its_losses(parts: Parts, tmp_path: Path) -> None:
    folder = anchors.run(
        "clip", tmp_path,
        [f"data_root={parts.world}", "world.size=tiny", "sources.image-text.batch_size=8", "loop.steps=5",
         "loop.log_every=1", "loop.warmup_steps=1", "vision.num_hidden_layers=2", "vision.hidden_size=32",
         "vision.intermediate_size=64"],
    )  # fmt: skip
    check_losses("anchors/clip", tmp_path)
    assert AutoModel.from_pretrained(folder).config.model_type == "clip"
    assert anchors.train_anchor(read_config(AnchorRecipe, "anchors", "clip"), tmp_path) == folder


def test_the_joint_recipe_repeats_its_losses(joint: Path) -> None:
    check_losses("unialign/world", joint)


def test_the_incremental_recipe_repeats_its_losses(incremental: Path) -> None:
    check_losses("unialign/world-incremental", incremental)


def test_the_demo_is_the_incremental_recipe_on_a_smaller_world(parts: Parts, tmp_path: Path) -> None:
    demo, full = (read_config(UniAlignRecipe, "unialign", name) for name in ("demo", "world-incremental"))
    assert (demo.stages, demo.senses, demo.model) == (full.stages, full.senses, full.model)
    assert demo.world is not None and demo.world.size == "demo" and demo.bounds > 0
    shorter = parts.overrides("stages=[{name: depth, trains: [depth]}]", "evaluation.splits={}", steps=1)
    assert unialign.run("demo", tmp_path, shorter).name == "stage-2-depth"


def paper_overrides(root: Path, anchor: Path) -> list[str]:
    """The paper's recipe on a tiny anchor; senses, sources, columns and losses stay as they are."""
    sources = read_config(UniAlignRecipe, "unialign", "paper").sources
    return [
        f"data_root={root}", f"anchor={anchor}", *(f"sources.{name}.batch_size=2" for name in sources),
        "senses.point_cloud.tokenizer.groups=16", "senses.point_cloud.processor.num_groups=16",
        "senses.video.processor.num_frames=5", "loop.epochs=0", "loop.steps=2", "loop.log_every=1",
        "loop.loader_workers=0",
    ]  # fmt: skip


def test_the_papers_recipe_trains_all_senses_from_parquet_files(
    parts: Parts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    write_paper_data(tmp_path / "data")
    folder = unialign.run("paper", tmp_path / "run", paper_overrides(tmp_path / "data", parts.anchor))
    log = [json.loads(line) for line in (tmp_path / "run/training/stage-2-all-senses/log.jsonl").open()]
    steps = [line for line in log if line["event"] == "train"]
    wanted = {f"{sense}/{term}" for sense in PAPER_SENSES for term in ("nce_text", "soft_bind")}
    wanted |= {f"{sense}/nce_image" for sense in PAPER_SENSES[1:]}
    assert len(steps) == 2 and all(line["losses"].keys() == wanted and line["loss"] > 0 for line in steps)
    assert all(line["skipped_samples"] == 0 for line in steps)
    model = AutoModel.from_pretrained(folder)
    assert set(model.modalities) == {*PAPER_SENSES, "text"} and model.config.image_experts
    scored = {(r["modality"], r["dataset"]) for r in json.loads((folder / "metrics.json").read_text())["results"]}
    assert len(scored) == 6  # two data sets of sounds, and one of each other sense
    assert {modality for modality, _ in scored} == set(PAPER_SENSES)
    assert [stage.name for stage in stages(tmp_path / "run")] == ["stage-1-anchor", "stage-2-all-senses"]


def test_the_papers_model_trains_less_than_a_tenth_of_vit_b_16() -> None:
    recipe = read_config(UniAlignRecipe, "unialign", "paper")
    senses = {name: settings.spec(name).to_dict() for name, settings in recipe.senses.items()}
    clip = CLIPConfig(text_config={"hidden_size": 512}, vision_config={"patch_size": 16}, projection_dim=512)
    with torch.device("meta"):
        model = UniAlignModel(UniAlignConfig(clip_config=clip, modalities=senses, **recipe.model))
    table = model.parameter_table()
    trained = {part: trainable for part, (_, trainable) in table.items() if trainable}
    assert sum(count for part, count in trained.items() if part.startswith("experts")) == 4_147_200  # method-facts 1.9
    assert sum(trained.values()) < 0.1 * 86_192_640  # of CLIP's ViT-B/16 with its projection
    assert {sense: model.token_spec(sense).grid[-2:] for sense in ("depth", "audio", "video")} == dict.fromkeys(
        ("depth", "audio", "video"), (14, 14)
    )
    assert model.token_spec("point_cloud").grid == (1, 1, 196)


def test_the_papers_batch_is_2048_samples_on_four_processes() -> None:
    recipe = read_config(UniAlignRecipe, "unialign", "paper")
    per_process = sum(source.batch_size for source in recipe.sources.values())
    assert per_process * recipe.loop.accumulation * 4 == 2048
    assert (recipe.loop.learning_rate, recipe.loop.weight_decay, recipe.loop.epochs) == (2e-4, 0.05, 100)
