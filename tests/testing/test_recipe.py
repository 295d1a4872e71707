"""The tiny recipe is one that can be read and run."""

from __future__ import annotations

from pathlib import Path

from polysense.data import Manifest
from polysense.recipes.config import read_config
from polysense.recipes.mera_config import MeraRecipe
from polysense.testing.recipe import SAMPLES, SENSES, TESTS, tiny_recipe


def test_its_config_is_valid_and_its_samples_have_files_captions_and_questions_of_their_own(tmp_path: Path) -> None:
    recipe = read_config(MeraRecipe, "mera", str(tiny_recipe(tmp_path, steps=5, loop={"save_every": 3})))
    assert (recipe.joint.steps, recipe.loop.save_every, tuple(recipe.stages)) == (5, 3, SENSES)
    for split, count in (("train", SAMPLES), ("test", TESTS)):
        samples = Manifest(tmp_path / f"{split}.jsonl", root=tmp_path)
        assert len(samples) == count
        asked = [each["question"] for sample in map(samples.__getitem__, range(count))
                 for each in sample.extra["questions"]]  # fmt: skip
        assert len(set(asked)) == count * len(SENSES)
        assert all(set(samples[index].media) == set(samples[index].captions) == set(SENSES) for index in range(count))
