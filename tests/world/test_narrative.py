from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from polysense.world.attributes import COLOURS, MATERIALS, Happening, Look
from polysense.world.events import Event
from polysense.world.narrative import NARRATED, clip_captions, clip_questions, clip_semantics, narration
from polysense.world.words import variants

Rows = Callable[[str], list[dict[str, Any]]]

BOUNCE = Event(Happening("bounce", Look("cube", "red", "large", "metal")), 1, 6, True, True, 1.0, 0.0)
ROLL = Event(Happening("roll", Look("cone", "blue", "small", "wood")), 7, 9, True, False, 1.0, 0.0)


def test_sentences_name_only_what_the_sense_has(rows: Rows) -> None:
    seen = {word for name in MATERIALS for word in variants(name)}
    heard = {word for name in COLOURS for word in variants(name)}
    for row in rows("clips-train"):
        for sense, hidden in (("video", seen), ("audio", heard)):
            spoken = {word for caption in row["captions"][sense] for word in caption.split()}
            assert not spoken & hidden
            assert len(row["captions"][sense]) >= 5


def test_an_event_that_is_not_heard_is_not_told_of_the_sound() -> None:
    captions = clip_captions(np.random.default_rng(0), (BOUNCE, ROLL), "audio")
    assert not any("roll" in caption for caption in captions)
    assert clip_semantics((BOUNCE, ROLL), "audio") == "large metal bounce"
    assert clip_semantics((BOUNCE, ROLL), "video") == "large red cube bounce ; small blue cone roll"


def test_sentences_give_the_order_of_events() -> None:
    for seed in range(20):
        for caption in clip_captions(np.random.default_rng(seed), (BOUNCE, ROLL), "video"):
            first, second = caption.find("bounc"), caption.find("roll")
            assert min(first, second) >= 0
            assert (second < first) == caption.startswith("before")


def test_narration_follows_the_seconds() -> None:
    told = narration(np.random.default_rng(0), (BOUNCE, ROLL), "video")
    assert len(told) == 10
    assert ["bounc" in phrase for phrase in told] == [1 <= second < 6 for second in range(10)]
    assert ["roll" in phrase for phrase in told] == [7 <= second < 9 for second in range(10)]
    assert told[0] == told[6] == told[9]


def test_the_same_question_has_each_senses_own_answer() -> None:
    questions = clip_questions((BOUNCE, ROLL))
    answers = {(q["modality"], q["question"]): q["answer"] for q in questions}
    assert answers["video", "what is it ?"] == "a bouncing red cube"
    assert answers["audio", "what is it ?"] == "bouncing iron"
    assert answers["video", "how many events are there ?"] == "two"
    assert answers["audio", "how many events are there ?"] == "1"
    assert answers["video", "what happens last ?"] == "rolling"
    assert ("audio", "what colour is it ?") not in answers


def test_at_least_three_in_ten_clips_are_narrated() -> None:
    assert NARRATED >= 0.3
