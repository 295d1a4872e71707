"""The anchor's recipe and tokenizer."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import AutoTokenizer, CLIPModel

from polysense.errors import CheckpointError, ConfigError
from polysense.recipes import anchors
from polysense.recipes.anchors import AnchorRecipe, build_clip, train_tokenizer
from polysense.recipes.config import read_config
from tests.recipes.fixtures import Parts


def test_the_tokenizer_marks_start_and_end_and_knows_every_character() -> None:
    tokenizer = train_tokenizer(["a red cup on the floor", "a blue box"] * 4, vocabulary=120, length=16)
    ids = tokenizer("A red cup!")["input_ids"]
    assert ids[0] == tokenizer.bos_token_id and ids[-1] == tokenizer.eos_token_id
    assert tokenizer.unk_token_id not in ids
    assert tokenizer.decode(ids, skip_special_tokens=True).split()[:3] == ["a", "red", "cup"]
    assert tokenizer.model_max_length == 16


def test_the_start_is_a_function_of_the_seed() -> None:
    recipe = read_config(AnchorRecipe, "anchors", "clip", ["vision.num_hidden_layers=1", "text.num_hidden_layers=1"])
    tokenizer = train_tokenizer(["a cup"], vocabulary=80)
    first, second = build_clip(recipe, tokenizer), build_clip(recipe, tokenizer)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))
    assert first.config.text_config.eos_token_id == tokenizer.eos_token_id


@pytest.fixture(scope="module")
def trained(parts: Parts, tmp_path_factory: pytest.TempPathFactory) -> Path:
    overrides = [
        f"data_root={parts.world}", "world.size=tiny", "loop={epochs: 1, save_every: 100}",
        "vision.num_hidden_layers=1", "text.num_hidden_layers=1", "sources.image-text.batch_size=4",
    ]  # fmt: skip
    return anchors.run("clip", tmp_path_factory.mktemp("anchor"), overrides)


def test_an_anchor_is_a_plain_clip_folder(trained: Path) -> None:
    assert trained.name == "anchor" and isinstance(CLIPModel.from_pretrained(trained), CLIPModel)
    assert AutoTokenizer.from_pretrained(trained)("a cup")["input_ids"]


def test_a_damaged_anchor_is_refused(trained: Path, parts: Parts) -> None:
    (trained / "config.json").write_text("{}")
    with pytest.raises(CheckpointError, match=r"config\.json"):
        anchors.run("clip", trained.parent)


def test_a_source_that_is_not_there_is_named(parts: Parts, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"sources: image-text: data: .*none\.jsonl"):
        anchors.run("clip", tmp_path, [f"data_root={parts.world}", "world.size=tiny",
                                       "sources.image-text.data.manifest=none.jsonl"])  # fmt: skip
    assert not (tmp_path / "anchor").exists()
