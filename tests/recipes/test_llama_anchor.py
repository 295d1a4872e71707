"""The small Llama's recipe and tokenizer."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaForCausalLM

from polysense.errors import CheckpointError
from polysense.recipes import llama_anchor
from polysense.recipes.config import read_config
from polysense.recipes.llama_anchor import END, START, LlamaRecipe, build_llama, train_tokenizer, write_text
from polysense.world.generic import generic_words

TINY = ["model.num_hidden_layers=1", "model.hidden_size=32", "model.intermediate_size=64", "corpus=200",
        "batch_size=4", "loop.steps=3", "loop.log_every=1", "loop.loader_workers=0"]  # fmt: skip


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return llama_anchor.run("llama", tmp_path_factory.mktemp("llama"), TINY)


def test_the_folder_is_that_of_an_ordinary_llama(trained: Path) -> None:
    model, tokenizer = AutoModelForCausalLM.from_pretrained(trained), AutoTokenizer.from_pretrained(trained)
    assert isinstance(model, LlamaForCausalLM) and trained.name == "llama"
    assert model.config.vocab_size == len(tokenizer) <= 768
    assert (model.config.pad_token_id, model.config.eos_token_id) == (tokenizer.pad_token_id, tokenizer.eos_token_id)
    chat = tokenizer.apply_chat_template([{"role": "user", "content": "what is it ?"}], tokenize=False)
    assert chat.startswith(START) and "user" in chat and chat.count(END) == 1


def test_placeholders_and_spare_tokens_are_one_token_each_and_words_are_whole(trained: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(trained)
    for token in ("<image>", "<video>", "<audio>", "<point_cloud>", "<depth>", "<thermal>",
                  "<|reserved_special_token_7|>", "<|start_header_id|>"):  # fmt: skip
        assert len(tokenizer(token, add_special_tokens=False)["input_ids"]) == 1, token
    for word in " ".join(generic_words()).split():
        assert len(tokenizer(word, add_special_tokens=False)["input_ids"]) == 1, word
    ids = tokenizer("A tiny red cube, 12 s!")["input_ids"]
    assert ids[0] == tokenizer.bos_token_id and tokenizer.unk_token_id not in ids
    assert tokenizer.decode(ids, skip_special_tokens=True).split()[:4] == ["a", "tiny", "red", "cube"]


def test_texts_are_told_plainly_and_as_chats(trained: Path) -> None:
    recipe, tokenizer = read_config(LlamaRecipe, "anchors", "llama"), AutoTokenizer.from_pretrained(trained)
    texts = [write_text(recipe, tokenizer, number) for number in range(100)]
    chats = [text for text in texts if "<|start_header_id|>" in text]
    assert len(chats) == 90 and all(text.endswith(END) and not text.startswith(START) for text in texts)
    assert all(tokenizer(text)["input_ids"].count(tokenizer.bos_token_id) == 1 for text in texts)


def test_the_start_is_a_function_of_the_seed() -> None:
    recipe = read_config(LlamaRecipe, "anchors", "llama", TINY)
    tokenizer = train_tokenizer(["a cup"], recipe)
    first, second = build_llama(recipe, tokenizer), build_llama(recipe, tokenizer)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))


def test_the_shipped_model_is_a_small_one(trained: Path) -> None:
    recipe = read_config(LlamaRecipe, "anchors", "llama")
    model = build_llama(recipe, AutoTokenizer.from_pretrained(trained))
    assert 500_000 < sum(parameter.numel() for parameter in model.parameters()) < 1_500_000


def test_a_finished_llama_is_kept_and_a_damaged_one_refused(trained: Path) -> None:
    assert llama_anchor.run("llama", trained.parent, TINY) == trained
    config = (trained / "config.json").read_text()
    (trained / "config.json").write_text("{}")
    with pytest.raises(CheckpointError, match=r"config\.json"):
        llama_anchor.run("llama", trained.parent, TINY)
    (trained / "config.json").write_text(config)
