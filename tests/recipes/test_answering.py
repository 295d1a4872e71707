"""Scores of what a model says: hand-computed chances, and answers that do not depend on their batch."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from transformers import CLIPImageProcessorPil

from polysense.data import Manifest
from polysense.data.conversations import Conversations
from polysense.errors import ConfigError
from polysense.metrics.judging import Answer, Judgement, NormalisedMatchJudge, Verdict
from polysense.models.mera import MeraForConditionalGeneration, MeraProcessor
from polysense.recipes.answering import (
    AnswerEvaluator,
    AnsweringSettings,
    JudgeSettings,
    Said,
    answer_results,
    caption_result,
)
from polysense.testing import tiny_mera, tiny_tokenizer
from tests.recipes.fixtures import Parts


def said(prompt: str, right: Sequence[str], prediction: str, task: Any = "question") -> Said:
    return Said("stills", "a", "image", task, prompt, tuple(right), prediction)


def mera() -> tuple[MeraForConditionalGeneration, MeraProcessor]:
    model = tiny_mera()
    pictures = CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    return model, MeraProcessor.from_model(model, tiny_tokenizer(), pictures)


def stills(parts: Parts) -> Manifest:
    return Manifest(parts.world / "manifests" / "stills-test.jsonl", root=parts.world)


def silent(answers: Sequence[Answer]) -> Judgement:
    return Judgement(judge="some", verdicts=(None,) * len(answers),
                     unjudged=dict.fromkeys(range(len(answers)), "connection failed"))  # fmt: skip


def test_chance_of_answers_is_that_of_the_most_frequent_one() -> None:
    asked = [said("colour ?", [word], "red") for word in ("red", "red", "blue")] + [said("how many ?", ["2"], "two")]
    judgement = NormalisedMatchJudge()([Answer(each.prompt, each.references[0], each.prediction) for each in asked])
    (result,) = answer_results(asked, judgement)
    assert result.value == pytest.approx(3 / 4) and result.chance == pytest.approx(3 / 4)
    assert result.low is not None and result.high is not None
    assert result.low < result.value < result.high and result.count == 4
    assert "normalised match" in result.metric


def test_of_several_right_answers_the_one_that_was_given_is_compared_or_the_most_frequent() -> None:
    right = ("red", "crimson", "crimson")
    assert said("colour ?", right, "Red .").reference == "red"
    assert said("colour ?", right, "blue").reference == "crimson"
    asked = [said("colour ?", right, "red"), said("colour ?", ("red", "red"), "blue")]
    (result,) = answer_results(asked, NormalisedMatchJudge()([Answer("", e.reference, e.prediction) for e in asked]))
    assert (result.value, result.chance) == (0.5, 1.0)  # "red" is right for both


def test_a_judgement_that_is_not_complete_gives_no_figure() -> None:
    asked = [said("colour ?", ["red"], "red")] * 2
    half = Judgement(judge="some", verdicts=(Verdict(True), None), unjudged={1: "late"}, min_coverage=0.9)
    assert answer_results(asked, half) == []
    assert answer_results(asked, Judgement(judge="some", verdicts=(None, None), min_coverage=0.0)) == []


def test_a_judgement_that_is_not_complete_is_warned_of(
    parts: Parts, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    model, processor = mera()
    evaluator = AnswerEvaluator(model, processor, AnsweringSettings(limit=2, max_new_tokens=2), Conversations())
    monkeypatch.setattr(evaluator, "judge", silent)
    answers = evaluator.on([("stills", "image", stills(parts))])
    assert {each.task for each in answers.results} == {"captioning"}
    assert re.search(r"stills: incomplete.* 0 of \d+ answers .*coverage 0.0%.*: connection failed \(\d", caplog.text)


def test_captions_are_scored_beside_those_of_other_samples() -> None:
    words = ("a small red cube", "one large blue ball", "the tiny green ring")
    asked = [said("describe it .", [text], text, "caption") for text in words]
    result = caption_result(asked, "whitespace")
    assert result.value == pytest.approx(10.0) and result.chance == pytest.approx(0.0)
    assert result.metric == "CIDEr-D (whitespace)"


def test_a_language_models_verdicts_are_kept_in_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-none")
    assert JudgeSettings().judge().name == NormalisedMatchJudge().name
    assert "tiny-judge" in JudgeSettings(model="tiny-judge").judge(tmp_path / "verdicts.jsonl").name


def test_settings_are_positive() -> None:
    with pytest.raises(ConfigError, match="limit is 0"):
        AnsweringSettings(limit=0)


@pytest.fixture(scope="module")
def asked(parts: Parts) -> Any:
    (model, processor), dataset = mera(), stills(parts)

    def ask(size: int, **settings: Any) -> list[Said]:
        options = AnsweringSettings(batch_size=size, max_new_tokens=5, **settings)
        return AnswerEvaluator(model, processor, options, Conversations()).ask(dataset, "image", "stills")

    return ask


def test_answers_do_not_depend_on_what_they_are_batched_with(asked: Any) -> None:
    assert asked(1, limit=4) == asked(7, limit=4)


def test_samples_and_questions_are_drawn_by_a_key(asked: Any) -> None:
    few, more = asked(8, limit=2, questions=1), asked(8, limit=3)
    assert [each.task for each in few] == ["caption", "question"] * 2
    assert {(each.sample, each.prompt) for each in few} <= {(each.sample, each.prompt) for each in more}
