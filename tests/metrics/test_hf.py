from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from polysense.errors import ConfigError
from polysense.metrics.captioning import cider_d
from polysense.metrics.hf import CiderMetric, JudgeAccuracyMetric, RelativeGainsMetric
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


PAPER: dict[str, Any] = json.loads((Path(__file__).parent / "mera_tables.json").read_text())
LONG = ("predictions", "references", "stages", "modalities", "tasks")


def rows(method: str, direction: str) -> dict[str, list[Any]]:
    """A method's scores of Table 9 or 10, one row each, latest stage first."""
    found: list[tuple[Any, ...]] = []
    for stage, values in enumerate(PAPER["raw"][direction][method], start=1):
        for place, value in enumerate(values):
            modality = PAPER["order"][direction][place // 2]
            expert = PAPER["experts"][modality][place % 2]
            found.insert(0, (value, expert, stage, modality, ("captioning", "qa")[place % 2]))
    return dict(zip(LONG, map(list, zip(*found, strict=True)), strict=True))


@pytest.mark.parametrize("method", PAPER["table_2"])
def test_relative_gains_as_an_evaluate_metric_are_table_2(method: str) -> None:
    printed = []
    for direction in ("sequential", "reverse"):
        found = RelativeGainsMetric().compute(**rows(method, direction))
        assert len(found["backward"]) == len(found["forward"]) == 4 and found["backward"][0] == 1.0
        printed += [round(100 * found[key], 2) for key in ("backward_mean", "backward_deviation")]
    assert printed == PAPER["table_2"][method]


def test_scores_that_make_no_chain_of_stages_are_named() -> None:
    whole = rows("EWC", "sequential")
    twice = {key: [*values, values[0]] for key, values in whole.items()}
    with pytest.raises(ConfigError, match=r"stage 4: point.*: qa: there are two scores of it"):
        RelativeGainsMetric().compute(**twice)
    other = {**whole, "references": [2.0, *whole["references"][1:]]}
    with pytest.raises(ConfigError, match="there are two scores of it"):
        RelativeGainsMetric().compute(**{key: [*values, *whole[key]] for key, values in other.items()})
    alone = {key: [values[place] for place, stage in enumerate(whole["stages"]) if stage != 2]
             for key, values in whole.items()}  # fmt: skip
    with pytest.raises(ConfigError, match=r"stage 3: the modalities .* are new"):
        RelativeGainsMetric().compute(**alone)
