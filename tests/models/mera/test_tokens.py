from __future__ import annotations

from typing import Any

import pytest
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from transformers import PreTrainedTokenizerFast

from polysense.errors import ConfigError
from polysense.models.mera.tokens import pad_token_id


def tokenizer(*words: str, **special: str) -> Any:
    model = WordLevel({word: index for index, word in enumerate(words)}, unk_token=words[0])
    return PreTrainedTokenizerFast(tokenizer_object=Tokenizer(model), **special)


def test_a_padding_token_is_used_as_it_is() -> None:
    assert pad_token_id(tokenizer("a", "<pad>", pad_token="<pad>")) == 1


@pytest.mark.parametrize("reserved", ["<|reserved_special_token_7|>", "<|finetune_right_pad_id|>", "<unused3>"])
def test_a_reserved_token_takes_its_place(reserved: str) -> None:
    assert pad_token_id(tokenizer("a", "<end>", reserved, eos_token="<end>")) == 2


def test_the_first_reserved_token_that_is_not_the_end_is_taken() -> None:
    words = ("a", "<|reserved_special_token_0|>", "<|reserved_special_token_1|>")
    assert pad_token_id(tokenizer(*words, eos_token=words[1])) == 2


def test_the_unknown_token_serves_as_in_llava() -> None:
    assert pad_token_id(tokenizer("<unk>", "a", unk_token="<unk>")) == 0


def test_the_end_of_a_text_never_pads() -> None:
    with pytest.raises(ConfigError, match="neither a padding token nor a reserved one"):
        pad_token_id(tokenizer("<end>", "a", unk_token="<end>", eos_token="<end>"))
