"""The generic language: all words of the tasks, none of their sentences."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from polysense.world.attributes import COLOURS, EVENTS, MATERIALS, SHAPES, SIZES
from polysense.world.generic import generic_exchange, generic_text, generic_words
from polysense.world.words import variants

TEXTS = [" ".join(generic_text(0, number)) for number in range(3_000)]
EXCHANGES = [" ".join(generic_exchange(0, number)) for number in range(3_000)]


def test_a_text_is_a_function_of_seed_and_number() -> None:
    assert generic_text(0, 7) == generic_text(0, 7) != generic_text(0, 8)
    assert generic_text(0, 7) != generic_text(1, 7)
    assert len(generic_text(0, 7, sentences=5)) == 5


def test_an_exchange_is_answered_from_what_was_said() -> None:
    assert generic_exchange(0, 7) == generic_exchange(0, 7) != generic_exchange(1, 7)
    for number in range(500):
        told, answer = generic_exchange(0, number)
        words, _, asked = told.partition(" . ")
        said = words.split(" , ")
        assert 1 <= len(said) <= 5 and asked.endswith((".", "?"))
        known = {"the", "form", "paint", "amount", "stuff", "deed", "was", ":", ","}
        assert {word for word in answer.split() if word not in known} <= {
            part for each in said for part in each.split()
        }


def test_exchanges_ask_for_every_kind_of_word() -> None:
    asked = {generic_exchange(0, number)[0].partition(" . ")[2] for number in range(500)}
    assert len(asked) == 9 and "repeat my words ." in asked


def test_every_word_of_the_world_occurs() -> None:
    corpus = set(" ".join(TEXTS).split())
    wanted = {each for name in (*SHAPES, *COLOURS, *SIZES, *MATERIALS, *EVENTS) for each in variants(name)}
    assert wanted <= corpus
    assert {word for phrase in generic_words() for word in phrase.split()} <= corpus


def test_no_caption_question_or_answer_is_ever_written(rows: Callable[[str], list[dict[str, Any]]]) -> None:
    told: set[str] = set()
    for row in rows("stills-train") + rows("clips-train"):
        told |= {caption for captions in row["captions"].values() for caption in captions}
        told |= {entry[key] for entry in row["questions"] for key in ("question", "answer")}
    several = {text for text in told if len(text.split()) > 3}
    assert len(several) > 100
    corpus = "\n".join(TEXTS + EXCHANGES)
    assert [text for text in several if text in corpus] == []
    described = re.compile(rf"({'|'.join(COLOURS)}|{'|'.join(MATERIALS)}) ({'|'.join(SHAPES)})\b")
    assert described.search(corpus) is None  # "red cube" is what questions are answered with
