from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch

from polysense.errors import ConfigError, FeatureShapeError, UnknownModalityError
from polysense.models.mera.chat import (
    DEFAULT_TEMPLATE,
    Expansion,
    answer_pieces,
    checked_counts,
    in_order,
    joined,
    take_apart,
)

TOKENS = {"image": "<image>", "image_2": "<image>2", "audio": "<audio>"}
PARTS = "{% for message in messages %}{% for part in message['content'] %}{{ part['text'] }}{% endfor %}{% endfor %}"
IMAGES = PARTS + "{# image #}"


def user(*content: Any) -> list[dict[str, Any]]:
    return [{"role": "user", "content": list(content)}]


@pytest.mark.parametrize(
    ("template", "content"),
    [
        (DEFAULT_TEMPLATE, "what <image> is <audio>"),
        (PARTS, [{"type": "text", "text": "what "}, {"type": "text", "text": "<image>"},
                 {"type": "text", "text": " is "}, {"type": "text", "text": "<audio>"}]),
        (IMAGES, [{"type": "text", "text": "what "}, {"type": "image"}, {"type": "text", "text": " is "},
                  {"type": "text", "text": "<audio>"}]),
    ],
    ids=["text alone", "parts of text", "parts with images"],
)  # fmt: skip
def test_a_template_gets_what_it_can_render(template: str, content: Any) -> None:
    parts = take_apart(user("what ", {"type": "image", "image": 7}, " is ", {"type": "audio", "path": "a.wav"}),
                       TOKENS, template, where="sample 0")  # fmt: skip
    assert parts.messages == [{"role": "user", "content": content}]
    assert parts.sources == {"image": [7], "audio": ["a.wav"]}


def test_sources_and_facts_of_several_conversations_come_in_order() -> None:
    first = take_apart(user({"type": "image", "path": "a", "facts": {"x": 1}}, {"type": "image", "path": "b"}),
                       TOKENS, PARTS, where="0")  # fmt: skip
    second = take_apart(user("none here", {"type": "audio"}), TOKENS, PARTS, where="1")
    third = take_apart(user({"type": "image", "source": "c"}), TOKENS, PARTS, where="2")
    assert joined([first, second, third]) == ({"image": ["a", "b", "c"]}, {"image": [{"x": 1}, {}, {}]})


def test_a_part_without_a_source_among_others_is_named() -> None:
    parts = [take_apart(user({"type": "image", **more}), TOKENS, PARTS, where="") for more in ({"path": "a"}, {})]
    with pytest.raises(FeatureShapeError, match="image of sample 1: a part names no source, and others do"):
        joined(parts)


@pytest.mark.parametrize(
    ("conversation", "error", "message"),
    [
        (
            user({"type": "smell"}),
            UnknownModalityError,
            "sample 3: unknown modality 'smell'",
        ),
        (user({"path": "a"}), ConfigError, r"sample 3: a part is \{'path': 'a'\}"),
        (user(7), ConfigError, "sample 3: a part is 7"),
        ([{"role": "user"}], ConfigError, "sample 3: a message is"),
        ([{"role": "user", "content": None}], ConfigError, "sample 3: the content of a message is None"),
        ([], ConfigError, "sample 3: the conversation has no messages"),
    ],
)
def test_what_is_no_message_or_part_is_refused(conversation: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        take_apart(conversation, TOKENS, PARTS, where="sample 3")


def render(messages: Sequence[Any], prompt: bool) -> str:
    """Turns in brackets, and what begins an answer."""
    return "".join(f"[{each['role'][0]}: {each['content']}]" for each in messages) + "[a: " * prompt


def turns(*contents: str) -> list[dict[str, str]]:
    return [{"role": "ua"[i % 2] + "…", "content": each} for i, each in enumerate(contents)]


def test_pieces_are_prompts_and_answers_in_turn() -> None:
    messages = [{"role": role, "content": each} for role, each in
                (("user", "1"), ("assistant", "2"), ("user", "3"), ("assistant", "4"), ("user", "5"))]  # fmt: skip
    pieces = answer_pieces(render, messages, where="sample 0")
    assert pieces == [("[u: 1][a: ", False), ("2]", True), ("[u: 3][a: ", False), ("4]", True)]


def test_a_conversation_without_an_answer_teaches_nothing() -> None:
    with pytest.raises(ConfigError, match="sample 0: the conversation has no answer of the assistant"):
        answer_pieces(render, [{"role": "user", "content": "1"}], where="sample 0")


def test_a_template_that_contradicts_its_prompt_is_refused() -> None:
    messages = [{"role": "user", "content": "1"}, {"role": "assistant", "content": "2"}]
    with pytest.raises(ConfigError, match="sample 0: the chat template does not continue its own prompts"):
        answer_pieces(lambda m, prompt: f"{len(m)}{prompt}", messages, where="sample 0")


def test_placeholders_are_repeated_across_texts_the_longest_first() -> None:
    expansion = Expansion(TOKENS, {"image": [2, 1], "image_2": [3], "audio": []})
    assert expansion("a <image> <image>2", sample=0) == "a <image><image> <image>2<image>2<image>2"
    assert expansion("<image>", sample=1) == "<image>"
    expansion.finish(2)
    assert Expansion(TOKENS, {}).places("<image>2 <image>") == {"image": 1, "image_2": 1, "audio": 0}
    assert Expansion({}, {})("<image>", sample=0) == "<image>"


def test_counts_are_lists_of_any_integers() -> None:
    given = ([3, 1], (3, 1), torch.tensor([3, 1]), np.array([3, 1]), iter([3, 1]))
    assert [checked_counts({"image": each}, TOKENS) for each in given] == [{"image": [3, 1]}] * 5
    assert checked_counts(None, TOKENS) == {}


@pytest.mark.parametrize(
    ("counts", "message"),
    [
        ([16], r"counts: \[16\] is no mapping of senses to numbers of tokens. Give every item"),
        (torch.tensor([1, 2]), "counts: .* is no mapping"),
        ({"image": 16}, "counts of image: 16 is no list of positive integers"),
        ({"image": [1.5]}, r"counts of image: \[1.5\] is no list"),
        ({"image": [2, -1]}, r"counts of image: \[2, -1\] is no list"),
        ({"image": "16"}, "counts of image: '16' is no list"),
        ({"audio": None}, "counts of audio: None is no list"),
        ({"smell": [3]}, r"counts: unknown modality 'smell' \(known here: image, "),
    ],
)
def test_counts_that_are_none_are_named(counts: Any, message: str) -> None:
    with pytest.raises((ConfigError, UnknownModalityError), match=message):
        checked_counts(counts, TOKENS)


def test_disagreements_of_an_expansion_are_named() -> None:
    with pytest.raises(FeatureShapeError, match="audio of sample 4: there is a placeholder <audio> and no item"):
        Expansion(TOKENS, {"image": [1]})("<audio>", sample=4)
    with pytest.raises(FeatureShapeError, match="image of sample 2: 2 items more came than there are placeholders"):
        Expansion(TOKENS, {"image": [1, 1]}).finish(3)


@pytest.mark.parametrize(
    ("items", "places", "lists", "expected"),
    [
        ("one", [1], False, ["one"]),
        (["a", "b"], [1, 1], False, ["a", "b"]),
        (["a", "b", "c"], [2, 0, 1], False, ["a", "b", "c"]),
        ([["a", "b"], [], ["c"]], [2, 0, 1], False, ["a", "b", "c"]),
        ([["f", "g"]], [1], True, [["f", "g"]]),  # a video as its frames
        ([[["f", "g"]]], [1], True, [["f", "g"]]),
        ([["f"], ["g"]], [1, 1], True, ["f", "g"]),  # the placeholders fit the list of lists
        (["a", "b"], None, False, ["a", "b"]),
        ([["a"], ["b", "c"]], None, False, ["a", "b", "c"]),
        ([["f", "g"]], None, True, [["f", "g"]]),
        ([], [0, 0], False, []),
    ],
)
def test_items_are_listed_in_order(items: Any, places: Any, lists: bool, expected: list[Any]) -> None:
    assert in_order("video", items, places, lists=lists) == expected


@pytest.mark.parametrize(
    ("items", "places", "message"),
    [
        ([["a"], ["b", "c"]], [1, 1], "audio of sample 1: 2 items came for 1 placeholders"),
        (["a"], [1, 2], "audio of sample 1: 1 items came for 3 placeholders in 2 prompts"),
        (["a", "b"], [0, 1], "audio of sample 1: 2 items came for 1 placeholders in 2 prompts"),
        ([["a"]], [1, 1], "audio of sample 1: 1 items came for 2 placeholders"),
    ],
)
def test_the_sample_that_does_not_fit_is_named(items: Any, places: list[int], message: str) -> None:
    with pytest.raises(FeatureShapeError, match=message):
        in_order("audio", items, places)
