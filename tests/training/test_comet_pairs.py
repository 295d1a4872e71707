"""The paper's pairs on small files with the columns and sizes of its data sets."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from datasets import Dataset
from transformers import BertConfig, BertModel

from polysense.recipes.config import read_config
from polysense.recipes.feature_pairs import PairRecipe, PairStages
from polysense.testing import tiny_tokenizer

ROWS = 3
SHAPES = {"video": (10, 7, 7, 512), "audio": (10, 128), "image": (10, 7, 7, 512), "speech": (10, 128)}
CAPTION = "a red ball and a blue cup"


def features(path: Path, *shape: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, np.random.default_rng(0).random(shape, np.float32))


def write_pairs(root: Path) -> None:
    """Every data set of `pairs-paper.yaml`; of VATEX one film was not to be had."""
    names = [f"Ptf_2VRj-V0_{row:06d}_{row + 10:06d}" for row in range(ROWS)]
    for name in names[1:]:
        features(root / f"vatex/vgg19/{name}.npy", 10, 7, 7, 512)
    described = [{"videoID": name, "enCap": [CAPTION, "a ball"], "chCap": ["x"]} for name in names]
    (root / "vatex/vatex_training_v1.0.json").write_text(json.dumps(described))
    for row in range(ROWS):
        features(root / f"audiocaps/vggish/{91139 + row}.npy", 9, 128)
        features(root / f"flickr30k/vgg19/{row}.npy", 7, 7, 512)
        features(root / f"libritts/vggish/103_1240_00000{row}.npy", 14, 128)
    with (root / "audiocaps/train.csv").open("w", newline="") as file:
        rows = [(91139 + row, "r1nicOVtvkQ", 130, CAPTION) for row in range(ROWS)]
        csv.writer(file).writerows([("audiocap_id", "youtube_id", "start_time", "caption"), *rows])
    Dataset.from_dict({"img_id": [str(row) for row in range(ROWS)], "caption": [[CAPTION] * 5] * ROWS}).to_parquet(
        root / "flickr30k/test-00000-of-00001.parquet"
    )
    spoken = {"id": [f"103_1240_00000{row}" for row in range(ROWS)], "text_normalized": [CAPTION] * ROWS}
    Dataset.from_dict(spoken).to_parquet(root / "libritts/train.clean.100-00000-of-00001.parquet")


@pytest.fixture(scope="module")
def stages(tmp_path_factory: pytest.TempPathFactory) -> PairStages:
    folder = tmp_path_factory.mktemp("comet-paper")
    write_pairs(folder / "data")
    bert = BertConfig(vocab_size=96, hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2,
                      max_position_embeddings=32)  # fmt: skip
    torch.manual_seed(0)
    BertModel(bert).save_pretrained(folder / "bert")
    tiny_tokenizer().save_pretrained(folder / "bert")
    overrides = [
        f"data_root={folder / 'data'}", f"store={folder / 'store'}",
        f"extractors.text.language_model={folder / 'bert'}", *(f"pairs.{sense}-text.batch_size=4" for sense in SHAPES),
    ]  # fmt: skip
    return PairStages(read_config(PairRecipe, "comet", "pairs-paper", overrides))


@pytest.mark.parametrize("sense", SHAPES)
def test_features_of_the_published_sizes_become_ten_steps(
    stages: PairStages, sense: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path)
    (batch,) = stages.mixture([f"{sense}-text"], seed=0).build(0)
    assert batch.features[sense]["sequence"].shape[1:] == SHAPES[sense] and batch.features[sense]["mask"].all()
    words = batch.features["text"]
    assert words["sequence"].shape[1:] == (10, 16) and set(words["mask"].sum(dim=1).tolist()) <= {2, 7}
    if sense == "video":
        assert {sample.id for sample in batch.samples} == {f"Ptf_2VRj-V0_{row:06d}_{row + 10:06d}" for row in (1, 2)}


def test_a_picture_is_the_same_in_every_step(
    stages: PairStages, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path)
    pairs = stages.begin(["image-text"])["image-text"]
    steps = pairs[0].media["image"].source
    assert isinstance(steps, tuple) and torch.equal(steps[0][0], steps[0][9])


def test_the_recipe_is_that_of_the_paper() -> None:
    recipe = read_config(PairRecipe, "comet", "pairs-paper")
    assert [list(pair.senses) for pair in recipe.pairs.values()] == [[sense, "text"] for sense in SHAPES]
    assert all(pair.batch_size == 80 and pair.narrated == 0 for pair in recipe.pairs.values()) and recipe.steps == 10
