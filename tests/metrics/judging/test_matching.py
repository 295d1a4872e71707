from __future__ import annotations

import pytest

from polysense.metrics.judging import Answer, Judge, NormalisedMatchJudge
from polysense.metrics.judging.matching import normalised


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("The Red Cube.", "red cube"),
        ("an apple, a pear", "apple pear"),
        ("two dogs", "2 dogs"),
        ("Twenty", "20"),
        ("1,000", "1000"),
        ("3.5 metres", "3.5 metres"),
        ("don't know", "dont know"),
        ("It\u2019s red!", "its red"),
        ("T-shirt", "t shirt"),
        ("  left\tside\n", "left side"),
        ("\uff21\uff22\uff23", "abc"),
        ("Straße", "strasse"),
        ("\u0915\u093f.", "\u0915\u093f"),  # "ki", whose vowel is a mark, and not "kee" or "k"
        ("\u0e19\u0e49\u0e33!", "\u0e19\u0e49\u0e4d\u0e32"),  # "water", in its compatible form
        ("the", "the"),
        ("?", "?"),
        ("", ""),
    ],
)
def test_normalisation_by_hand(text: str, plain: str) -> None:
    assert normalised(text) == plain


def test_answers_are_right_when_equal_after_normalisation() -> None:
    pairs = [("red", "Red."), ("2", "two"), ("a dog", "dog"), ("red", "crimson"), ("the", "!"), ("red cube", "red")]
    result = NormalisedMatchJudge()([Answer("What?", reference, prediction) for reference, prediction in pairs])
    assert [verdict.correct for verdict in result.verdicts if verdict] == [True, True, True, False, False, False]
    assert (result.accuracy, result.coverage, result.mean_score, result.calls) == (0.5, 1.0, None, 0)


def test_its_name_says_that_it_is_no_llm() -> None:
    judge = NormalisedMatchJudge()
    assert isinstance(judge, Judge)
    assert judge([]).to_dict()["judge"] == judge.name == "normalised match (no language model)"
