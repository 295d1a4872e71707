"""The paper's pairs on small files with the columns and sizes of its data sets."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from polysense.recipes.config import read_config
from polysense.recipes.feature_pairs import PairRecipe, PairStages
from tests.training.comet_samples import SHAPES, WIDTH, write_bert, write_pairs


@pytest.fixture(scope="module")
def stages(tmp_path_factory: pytest.TempPathFactory) -> PairStages:
    folder = tmp_path_factory.mktemp("comet-paper")
    write_pairs(folder / "data")
    overrides = [
        f"data_root={folder / 'data'}",
        f"store={folder / 'store'}",
        f"extractors.text.language_model={write_bert(folder / 'bert')}",
        *(f"pairs.{sense}-text.batch_size=4" for sense in SHAPES),
    ]
    return PairStages(read_config(PairRecipe, "comet", "pairs-paper", overrides))


@pytest.mark.parametrize("sense", SHAPES)
def test_features_of_the_published_sizes_become_ten_steps(
    stages: PairStages, sense: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path)
    (batch,) = stages.mixture([f"{sense}-text"], seed=0).build(0)
    assert batch.features[sense]["sequence"].shape[1:] == SHAPES[sense] and batch.features[sense]["mask"].all()
    words = batch.features["text"]
    assert words["sequence"].shape[1:] == (10, WIDTH) and set(words["mask"].sum(dim=1).tolist()) <= {2, 7}
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
