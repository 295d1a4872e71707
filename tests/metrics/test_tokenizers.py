from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from polysense.errors import ConfigError
from polysense.metrics.tokenizers import caption_tokenizer, ptb_tokens

JAVA: dict[str, Any] = json.loads((Path(__file__).parent / "ptb_captions.json").read_text(encoding="utf-8"))


def test_tokens_are_those_of_the_java_tokenizer() -> None:
    """The captions were written to be hard; the fixture says how the expected tokens were made."""
    assert len(JAVA["equal"]) > 340
    wrong = {
        caption: ptb_tokens(caption)
        for caption, tokens in JAVA["equal"].items()
        if ptb_tokens(caption) != tokens.split()
    }
    assert wrong == {}


def test_known_differences_are_few_and_still_there() -> None:
    """One that is gone belongs to the equal ones."""
    assert len(JAVA["known_differences"]) < 10
    assert [c for c, tokens in JAVA["known_differences"].items() if ptb_tokens(c) == tokens.split()] == []


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("The man's dog can't swim.", ["the", "man", "'s", "dog", "ca", "n't", "swim"]),
        ("A “black-and-white” cat — asleep…", ["a", "black-and-white", "cat", "asleep"]),
        ("two (small) birds", ["two", "-lrb-", "small", "-rrb-", "birds"]),
        ("", []),
        (" ... !", []),
    ],
)
def test_ptb_by_hand(text: str, tokens: list[str]) -> None:
    assert ptb_tokens(text) == tokens


def test_whitespace_changes_nothing_but_splits() -> None:
    assert caption_tokenizer("whitespace")("A man's  Dog.\n") == ["A", "man's", "Dog."]


def test_an_unknown_tokenizer_is_refused() -> None:
    with pytest.raises(ConfigError, match="no caption tokenizer 'moses'"):
        caption_tokenizer("moses")


@pytest.mark.parametrize(
    "part",
    ["u.s.a", "a.a", "<a b", "a'", "-", "a-", "n'", "1.", "http://", "<!--", "&amp", "a_", "((", "é", "a@", "e'e"],
)
def test_a_degenerate_caption_of_a_broken_model_takes_no_time(part: str) -> None:
    """A language model that repeats itself must not hang its own evaluation."""
    begun = time.perf_counter()
    for end in ("", "_", ">", "!"):
        ptb_tokens(part * 1000 + end)
    assert time.perf_counter() - begun < 4
