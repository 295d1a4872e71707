from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from polysense.errors import ConfigError
from polysense.metrics.captioning import cider_d

PEER: dict[str, Any] = json.loads((Path(__file__).parent / "cider_golden.json").read_text())


def test_scores_are_those_of_the_coco_evaluation() -> None:
    """Checked in, so that the comparison is made wherever the tests run."""
    predictions, references, expected = zip(*PEER["samples"], strict=True)
    score = cider_d(predictions, references, tokenizer="whitespace")
    assert np.abs(score.per_sample - expected).max() <= 1e-9
    assert score.mean == pytest.approx(PEER["mean"], abs=1e-9)


def test_scores_are_those_of_the_installed_peer_on_random_words() -> None:
    peer = pytest.importorskip("pycocoevalcap.cider.cider", reason="its values above are checked in")
    rng = np.random.default_rng(0)

    def caption() -> str:
        return " ".join(f"w{word}" for word in rng.zipf(1.5, rng.integers(0, 15)) % 50)

    references = {i: [caption() for _ in range(rng.integers(1, 6))] for i in range(200)}
    predictions = {i: [caption()] for i in references}
    mean, per_sample = peer.Cider().compute_score(references, predictions)
    ours = cider_d([each for [each] in predictions.values()], list(references.values()), tokenizer="whitespace")
    assert np.abs(ours.per_sample - per_sample).max() <= 1e-9
    assert ours.mean == pytest.approx(mean, abs=1e-9)


@pytest.mark.parametrize(
    ("prediction", "reference", "expected"),
    [
        ("a b", "a b", 10 * (1 + 1) / 4),  # n = 1 and 2 agree, 3 and 4 do not exist
        ("a b c d", "a b c d", 10),
        ("a e", "a b", 10 * (1 / 2) / 4),  # one of two words; their idf is equal; no bigram in common
        ("a a", "a b", 10 / (2 * math.sqrt(2)) / 4),  # 2 L clipped to L: L * L / (2 L * sqrt(2) L)
        ("a b c", "a b", 10 * (2 / math.sqrt(6) + 1 / math.sqrt(2)) * math.exp(-1 / 72) / 4),  # one bigram longer
        ("", "a b", 0),
        ("x y", "a b", 0),
    ],
)
def test_cider_by_hand(prediction: str, reference: str, expected: float) -> None:
    """The second sample shares no word with the first, so that every idf is L = log 2 and cancels."""
    score = cider_d([prediction, "p q r s"], [[reference], ["p q r s"]], tokenizer="whitespace")
    assert score.per_sample.tolist() == pytest.approx([expected, 10])
    assert score.mean == pytest.approx((expected + 10) / 2)


def test_a_word_of_all_samples_weighs_nothing() -> None:
    score = cider_d(["a x", "a y"], [["a b"], ["a c"]], tokenizer="whitespace")
    assert score.per_sample.tolist() == [0, 0]


def test_references_are_averaged() -> None:
    score = cider_d(["a b", "p q"], [["a b", "k l"], ["p q"]], tokenizer="whitespace")
    assert score.per_sample.tolist() == pytest.approx([2.5, 5])


def test_the_result_names_its_tokenizer_and_ptb_ignores_case_and_punctuation() -> None:
    predictions, references = ["A man's dog.", "two cats"], [["a man 's dog"], ["Two cats!"]]
    score = cider_d(predictions, references)
    assert (score.tokenizer, score.per_sample.tolist()) == ("ptb", pytest.approx([10, 5]))
    assert cider_d(predictions, references, tokenizer="whitespace").mean < score.mean


def test_samples_in_another_order_score_the_same() -> None:
    predictions, references, _ = zip(*PEER["samples"], strict=True)
    backwards = cider_d(predictions[::-1], references[::-1]).per_sample[::-1]
    np.testing.assert_allclose(cider_d(predictions, references).per_sample, backwards, atol=1e-12)


@pytest.mark.parametrize(
    ("predictions", "references", "message"),
    [
        (["a"], [["a"], ["b"]], "1 predictions and references for 2 samples"),
        (["a", "b"], [["a"], []], "sample 1: the list of references is empty"),
        (["a", "b"], [["a"], "b"], "sample 1: the list of references is one string"),
        (["a"], [["a"]], "CIDEr of 1 samples is not defined: its idf is log"),
        ([], [], "CIDEr of 0 samples"),
    ],
)
def test_what_cannot_be_scored(predictions: list[str], references: list[list[str]], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        cider_d(predictions, references)
