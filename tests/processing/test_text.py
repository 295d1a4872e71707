from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from polysense.errors import ConfigError, MediaError
from polysense.modality import get_modality
from polysense.processing import TextProcessor, processor_for


@pytest.fixture
def tokenizer() -> PreTrainedTokenizerFast:
    words = Tokenizer(models.WordLevel({"<pad>": 7, "<unk>": 0, "a": 1, "red": 2, "cube": 3}, "<unk>"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=words, pad_token="<pad>", unk_token="<unk>")


def test_texts_are_padded_with_the_tokenizers_token(tokenizer: PreTrainedTokenizerFast) -> None:
    batch = processor_for(get_modality("text"), 64, tokenizer=tokenizer)(["a red cube", "cube"])
    assert batch["input_ids"].tolist() == [[1, 2, 3], [3, 7, 7]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1], [1, 0, 0]]
    assert batch["attention_mask"].dtype == torch.long


def test_a_string_is_text_and_a_path_is_a_file(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("a cube")
    text = processor_for(get_modality("text"), 64, tokenizer=tokenizer, max_length=1)
    assert text(["a cube", tmp_path / "a.txt"])["input_ids"].tolist() == [[1], [1]]


def test_options_travel_without_the_tokenizer(tokenizer: PreTrainedTokenizerFast) -> None:
    text = processor_for(get_modality("text"), 64, tokenizer=tokenizer, max_length=5)
    assert text.to_dict() == {"modality": "text", "size": 64, "channels": 1, "max_length": 5}
    assert TextProcessor.from_dict(text.to_dict(), tokenizer=tokenizer) == text
    with pytest.raises(ConfigError, match=r"lacks \['tokenizer'\]"):
        TextProcessor.from_dict(text.to_dict())


def test_what_is_no_text_is_refused(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    text = processor_for(get_modality("text"), 64, tokenizer=tokenizer)
    (tmp_path / "a.txt").write_bytes(b"\xff\xfe\x00")
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    refused = (("  ", "empty text"), (3, "not text"), (tmp_path / "a.txt", "UTF-8"), ("a \udcff", "surrogates"))
    for source, reason in refused:
        with pytest.raises(MediaError, match=reason):
            text.load(source)
    with pytest.raises(MediaError, match="holds PNG picture"):
        text.load(tmp_path / "a.png")
