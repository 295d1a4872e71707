"""Samples as conversations."""

from __future__ import annotations

from typing import Any

import pytest

from polysense.data import Sample
from polysense.data.conversations import INSTRUCTIONS, Conversations, Turn, messages
from polysense.errors import ConfigError, ManifestError

QUESTIONS = [
    {"modality": "depth", "question": "what is it ?", "answer": "little block"},
    {"modality": "image", "question": "what is it ?", "answer": "red cube"},
    {"modality": "depth", "question": "how large is it ?", "answer": "little"},
]


def sample(number: int = 0, **extra: Any) -> Sample:
    captions = {"depth": ("a small cube", "a little block"), "image": ("a red cube",)}
    return Sample(f"s{number}", {}, captions=captions, extra={"questions": QUESTIONS, **extra})


def drawn(conversations: Conversations, modality: str, **keys: int) -> list[Turn]:
    """The single turns about 64 samples."""
    draws = [conversations.draw(sample(number), modality, **{"seed": 0, "epoch": 0, **keys}) for number in range(64)]
    return [turn for (turn,) in draws]


def test_a_draw_depends_on_seed_epoch_and_sample_and_not_on_order() -> None:
    conversations = Conversations()
    first = drawn(conversations, "depth")
    again = [conversations.draw(sample(number), "depth", seed=0, epoch=0)[0] for number in reversed(range(64))]
    assert first == again[::-1]
    assert first != drawn(conversations, "depth", epoch=1)
    assert first != drawn(conversations, "depth", seed=1)


def test_both_tasks_and_all_that_belongs_to_the_sense_are_drawn() -> None:
    turns = drawn(Conversations(), "depth")
    asked = {turn for turn in turns if turn.task == "question"}
    told = {turn for turn in turns if turn.task == "caption"}
    assert {(turn.prompt, *turn.answers) for turn in asked} == {
        ("what is it ? Answer briefly.", "little block"), ("how large is it ? Answer briefly.", "little"),
    }  # fmt: skip
    assert {turn.prompt for turn in told} == set(INSTRUCTIONS)
    assert {turn.answers[0] for turn in told} == {"a small cube", "a little block"}
    assert 20 < sum(turn.task == "question" for turn in turns) < 44


def test_captions_alone_are_drawn_where_they_alone_are_asked() -> None:
    turns = drawn(Conversations(tasks=("caption",)), "depth")
    assert {turn.task for turn in turns} == {"caption"}
    turns = drawn(Conversations(tasks=("question",)), "depth")
    assert {turn.task for turn in turns} == {"question"}


def test_the_length_is_that_of_what_is_drawn() -> None:
    conversations = Conversations(tasks=("caption",), instructions=("Describe it.",))
    (turn,) = conversations.draw(sample(), "image", seed=0, epoch=0)
    assert f"{turn.prompt} {turn.answers[0]}" == "Describe it. a red cube"
    assert conversations.words(sample(), 0, modality="image", seed=0) == 5


def test_senses_share_their_prompts_unless_one_has_a_pool_of_its_own() -> None:
    conversations = Conversations(tasks=("caption",), pools={"image": ["Describe the picture."]})
    assert {turn.prompt for turn in drawn(Conversations(), "image") if turn.task == "caption"} == set(INSTRUCTIONS)
    assert {turn.prompt for turn in drawn(conversations, "image")} == {"Describe the picture."}
    assert {turn.prompt for turn in drawn(conversations, "depth")} == set(INSTRUCTIONS)


def test_at_test_the_instruction_is_fixed_and_every_reference_is_kept() -> None:
    assert Conversations().test(sample(), "depth") == [
        Turn("caption", INSTRUCTIONS[0], ("a small cube", "a little block")),
        Turn("question", "what is it ? Answer briefly.", ("little block",)),
        Turn("question", "how large is it ? Answer briefly.", ("little",)),
    ]


def test_of_several_right_answers_one_is_drawn_and_all_are_kept_at_test() -> None:
    asked = [{"modality": "image", "question": "what is it ?", "answer": ["cup", "mug"]}]
    turns = [
        Conversations().draw(Sample(f"s{number}", {}, extra={"questions": asked}), "image", seed=0, epoch=0)[0]
        for number in range(32)
    ]
    assert {turn.answers for turn in turns} == {("cup",), ("mug",)}
    (turn,) = Conversations().test(Sample("s", {}, extra={"questions": asked}), "image")
    assert turn.answers == ("cup", "mug")


def test_turns_become_a_chat_with_or_without_their_answers() -> None:
    turns = (Turn("question", "what is it ?", ("a cube",)), Turn("caption", "describe it .", ("a red cube",)))
    asked = {"role": "user", "content": [{"type": "depth"}, {"type": "text", "text": "\nwhat is it ?"}]}
    assert messages(turns[:1], "depth", answered=False) == [asked]
    assert messages(turns, "depth", answered=True) == [
        asked, {"role": "assistant", "content": "a cube"},
        {"role": "user", "content": [{"type": "text", "text": "describe it ."}]},
        {"role": "assistant", "content": "a red cube"},
    ]  # fmt: skip


def test_a_conversation_of_several_turns_asks_nothing_twice() -> None:
    conversations = Conversations(turns=9)
    for number in range(32):
        turns = conversations.draw(sample(number), "depth", seed=0, epoch=0)
        assert sorted(turn.task for turn in turns) == ["caption", "question", "question"]
        assert len({turn.prompt for turn in turns}) == 3
    firsts = {conversations.draw(sample(number), "depth", seed=0, epoch=0)[0].task for number in range(32)}
    assert firsts == {"caption", "question"}
    two = Conversations(turns=2).draw(sample(3), "depth", seed=0, epoch=0)
    assert two == conversations.draw(sample(3), "depth", seed=0, epoch=0)[:2]
    assert conversations.words(sample(3), 0, modality="depth", seed=0) > Conversations().words(
        sample(3), 0, modality="depth", seed=0
    )


def test_a_sample_without_anything_to_answer_is_named() -> None:
    with pytest.raises(ManifestError, match="s0: the sample has no caption or question about audio"):
        Conversations().draw(sample(), "audio", seed=0, epoch=0)
    bare = Sample("bare", {}, captions={"image": ("a cube",)})
    assert Conversations().draw(bare, "image", seed=0, epoch=0)[0].task == "caption"
    with pytest.raises(ManifestError, match="bare: the sample has no question about image"):
        Conversations(tasks=("question",)).draw(bare, "image", seed=0, epoch=0)


@pytest.mark.parametrize(
    "malformed",
    ["text", [1], [{"modality": "depth", "question": "what ?"}],
     [{"modality": "depth", "question": "what ?", "answer": []}],
     [{"modality": "depth", "question": "what ?", "answer": ["cup", 1]}]],
)  # fmt: skip
def test_malformed_questions_are_named(malformed: Any) -> None:
    with pytest.raises(ManifestError, match="s0: 'questions' is not a list"):
        Conversations().draw(sample(questions=malformed), "depth", seed=0, epoch=0)


@pytest.mark.parametrize(
    "settings", [{"tasks": ()}, {"instructions": ()}, {"pools": {"image": ()}},
                 {"question_share": 1.5}, {"turns": 0}],
)  # fmt: skip
def test_settings_that_cannot_be_used_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        Conversations(**settings)
