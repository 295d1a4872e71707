from __future__ import annotations

from pathlib import Path

import pytest

from polysense.errors import ConfigError
from polysense.metrics.captioning import cider_d
from polysense.metrics.hf import CiderMetric, JudgeAccuracyMetric
from polysense.metrics.judging import LlmJudge, NormalisedMatchJudge
from tests.metrics.judging.scripted import compare, scripted

PREDICTIONS = ["a dog runs", "Two cats sleep.", "a bird"]
REFERENCES = [["a dog runs fast", "the dog runs"], ["two cats sleep"], ["a bird flies", "birds"]]


@pytest.mark.parametrize("tokenizer", ["ptb", "whitespace"])
def test_cider_as_an_evaluate_metric_is_that_of_the_function(tokenizer: str) -> None:
    expected = cider_d(PREDICTIONS, REFERENCES, tokenizer=tokenizer)
    assert CiderMetric().compute(predictions=PREDICTIONS, references=REFERENCES, tokenizer=tokenizer) == {
        "cider": expected.mean,
        "cider_per_sample": expected.per_sample.tolist(),
        "tokenizer": tokenizer,
    }


def test_samples_may_be_added_batch_by_batch_and_kept_in_a_file(tmp_path: Path) -> None:
    metric = CiderMetric(keep_in_memory=False, cache_dir=str(tmp_path))
    metric.add(prediction=PREDICTIONS[0], reference=REFERENCES[0])
    metric.add_batch(predictions=PREDICTIONS[1:], references=REFERENCES[1:])
    assert metric.compute()["cider"] == cider_d(PREDICTIONS, REFERENCES).mean


def test_what_cannot_be_scored_is_said_by_the_same_error() -> None:
    with pytest.raises(ConfigError, match="idf is log"):
        CiderMetric().compute(predictions=PREDICTIONS[:1], references=REFERENCES[:1])


def test_accuracy_by_comparison_names_its_judge() -> None:
    metric = JudgeAccuracyMetric(NormalisedMatchJudge())
    result = metric.compute(predictions=["Red.", "2"], references=["red", "three"], questions=["Colour?", "How many?"])
    assert (result["accuracy"], result["judge"]) == (0.5, "normalised match (no language model)")
    assert "no language model" in metric.description


def test_accuracy_by_an_llm_reports_its_coverage() -> None:
    with scripted(compare) as endpoint:
        metric = JudgeAccuracyMetric(LlmJudge("tiny-judge", endpoint.options()))
        result = metric.compute(
            predictions=["red", "blue"], references=["red", "red"], questions=["Colour?", "Colour?"]
        )
    assert (result["accuracy"], result["coverage"], result["complete"], result["calls"]) == (0.5, 1.0, True, 2)
