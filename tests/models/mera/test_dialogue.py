"""A dialogue keeps what was shown and said, and a question that fails leaves it as it was."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from polysense.errors import ConfigError, FeatureShapeError, MediaError, UnknownModalityError
from polysense.models.mera import MeraForConditionalGeneration, MeraProcessor
from polysense.models.mera.dialogue import Dialogue
from tests.cli.stand_ins import write_media
from tests.models.mera.saved import write_mera


@pytest.fixture(scope="module")
def media(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_media(tmp_path_factory.mktemp("media"))


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Any]:
    folder = write_mera(tmp_path_factory.mktemp("mera"), "depth")
    return MeraForConditionalGeneration.from_pretrained(folder), MeraProcessor.from_pretrained(folder)


def test_the_answer_is_what_the_model_generates_for_the_whole_conversation(
    parts: tuple[Any, Any], media: Path
) -> None:
    model, processor = parts
    dialogue = Dialogue(model, processor, max_new_tokens=5)
    dialogue.show("image", media / "photo.png")
    dialogue.show("depth", media / "deep.png")
    first = dialogue.ask("what is this ?")
    items = [{"type": "image", "path": media / "photo.png"}, {"type": "depth", "path": media / "deep.png"}]
    chat: list[Any] = [{"role": "user", "content": [*items, "\nwhat is this ?"]}]
    for question, answer in (("", first), ("a ball ?", dialogue.ask("a ball ?"))):
        if question:
            chat.append({"role": "user", "content": question})
        inputs = processor.apply_chat_template(chat, add_generation_prompt=True, tokenize=True, return_dict=True)
        out = model.generate(**inputs, max_new_tokens=5, do_sample=False)[0, inputs["input_ids"].shape[1] :]
        assert processor.tokenizer.decode(out, skip_special_tokens=True).strip() == answer
        chat.append({"role": "assistant", "content": answer})
    assert len(dialogue.messages) == 4 and first
    dialogue.reset()
    assert not dialogue.messages


def test_what_cannot_be_shown_or_asked_is_named_and_changes_nothing(parts: tuple[Any, Any], media: Path) -> None:
    dialogue = Dialogue(*parts, max_new_tokens=3)
    with pytest.raises(UnknownModalityError, match=r"sound\.wav: unknown modality 'audio' \(known here: .*depth"):
        dialogue.show("audio", media / "sound.wav")
    with pytest.raises(MediaError, match=r"cut\.png"):
        dialogue.show("image", media / "cut.png")
    dialogue.show("image", media / "photo.png")
    with pytest.raises(FeatureShapeError, match="2 placeholders for 1 parts"):
        dialogue.ask("what is <image> ?")
    with pytest.raises(ConfigError, match=r"and 3 of an answer exceed the 512 of the model"):
        dialogue.ask("word1 " * 600)
    assert not dialogue.messages
    dialogue.ask("what is this ?")
    assert dialogue.messages[0]["content"][0]["source"] == media / "photo.png", "the picture was still there"


def test_an_answer_needs_a_token(parts: tuple[Any, Any]) -> None:
    with pytest.raises(ConfigError, match="max_new_tokens is 0"):
        Dialogue(*parts, max_new_tokens=0)


def test_it_answers_with_what_was_learned_not_by_chance(parts: tuple[Any, Any], media: Path) -> None:
    model, processor = parts
    model.train()
    answers = set()
    for seed in range(2):
        torch.manual_seed(seed)
        dialogue = Dialogue(model, processor, max_new_tokens=4)
        dialogue.show("image", media / "photo.png")
        answers.add(dialogue.ask("what is this ?"))
    assert len(answers) == 1 and not model.training
