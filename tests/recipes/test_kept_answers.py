"""Answers on disk: found again while nothing that they depend on has changed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from polysense.data import MediaRef, Sample
from polysense.data.conversations import Turn
from polysense.recipes.kept_answers import KeptAnswers

TURN = Turn("question", "what is it ?", ("a ball",))


@pytest.fixture
def sample(tmp_path: Path) -> Sample:
    (tmp_path / "a.png").write_bytes(b"picture")
    return Sample("a", {"image": MediaRef(tmp_path / "a.png", {"size": 3}), "depth": MediaRef(b"depth")})


@pytest.fixture
def ask(tmp_path: Path) -> Callable[..., bool]:
    """Whether a model was asked, and not what is kept."""

    def asked(sample: Sample, turn: Turn = TURN, sense: str = "image", length: int = 3, model: str = "one") -> bool:
        calls: list[str] = []

        def answer() -> list[str]:
            calls.append("it")
            return ["red \u2028 ball"] * 2

        kept = KeptAnswers(tmp_path / "answers", model)
        assert kept.get([(sample, turn)] * 2, sense, length, answer) == ["red \u2028 ball"] * 2
        return bool(calls)

    return asked


def test_what_was_answered_is_kept(sample: Sample, ask: Callable[..., bool]) -> None:
    assert ask(sample) and not ask(sample)
    assert not ask(sample, replace(TURN, answers=("a cube",)))  # which only a judge looks at


def test_answers_to_anything_else_are_not_mistaken_for_them(
    sample: Sample, ask: Callable[..., bool], tmp_path: Path
) -> None:
    others: list[dict[str, Any]] = [
        {"length": 4},
        {"model": "two"},
        {"sense": "depth"},
        {"turn": replace(TURN, prompt="why ?")},
    ]
    ask(sample)
    assert [ask(sample, **other) for other in others] == [True] * 4
    assert [ask(sample, **other) for other in others] == [False] * 4
    facts = MediaRef(tmp_path / "a.png", {"size": 4})
    assert ask(replace(sample, media={"image": facts})) and ask(replace(sample, id="b"))
    (tmp_path / "a.png").write_bytes(b"another picture")
    assert ask(sample)


@pytest.mark.parametrize("damage", ["", "[]", "[{}, {}]", "{"])
def test_a_damaged_file_is_written_again(
    damage: str, sample: Sample, ask: Callable[..., bool], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    ask(sample)
    (file,) = (tmp_path / "answers").glob("*/*.json")
    file.write_text(damage)
    assert ask(sample) and "so the model is asked again" in caplog.text
    assert not ask(sample)


def test_media_in_memory_are_asked_about_each_time(sample: Sample, ask: Callable[..., bool], tmp_path: Path) -> None:
    loose = replace(sample, media={"image": MediaRef([1, 2])})
    lost = replace(sample, media={"image": MediaRef(tmp_path / "none.png")})
    assert [ask(each) for each in (loose, loose, lost, lost)] == [True] * 4


def test_a_disk_that_keeps_nothing_ends_no_evaluation(
    sample: Sample, ask: Callable[..., bool], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "answers").write_text("a file")
    assert ask(sample) and "cannot be kept" in caplog.text
