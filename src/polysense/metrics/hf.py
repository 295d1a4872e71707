"""Metrics of generated text as `evaluate` modules, made directly: `CiderMetric().compute(...)` needs no network."""

from __future__ import annotations

from typing import Any

import datasets
import evaluate

from polysense.metrics.captioning import cider_d
from polysense.metrics.judging import Answer, Judge
from polysense.modality import JsonValue

__all__ = ["CiderMetric", "JudgeAccuracyMetric"]

_TEXT = datasets.Value("string")


class CiderMetric(evaluate.Metric):
    """CIDEr-D (see `cider_d`): `compute(predictions=[...], references=[[...], ...], tokenizer="ptb")`.

    Gives `cider`, `cider_per_sample` and the name of the `tokenizer`.

    Raises:
        ConfigError: see `cider_d`.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"keep_in_memory": True, **options})

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description="CIDEr-D with sigma 6 and n up to 4; idf from the references.",
            citation="Vedantam et al., CIDEr: Consensus-based Image Description Evaluation, CVPR 2015",
            inputs_description="predictions: one caption per sample; references: one or more captions per sample",
            features=datasets.Features({"predictions": _TEXT, "references": datasets.Sequence(_TEXT)}),
        )

    def _compute(
        self, predictions: list[str], references: list[list[str]], tokenizer: str = "ptb"
    ) -> dict[str, JsonValue]:
        score = cider_d(predictions, references, tokenizer=tokenizer)
        return {"cider": score.mean, "cider_per_sample": score.per_sample.tolist(), "tokenizer": score.tokenizer}


class JudgeAccuracyMetric(evaluate.Metric):
    """Accuracy by a judge: `compute(predictions=[...], references=[...], questions=[...])`.

    Gives the summary of `Judgement.to_dict`, which names the judge and says how much was judged; `accuracy` is `None`
    where nothing was.

    Args:
        judge: an `LlmJudge`, a `NormalisedMatchJudge` or any other `Judge`.
        options: those of `evaluate.Metric`.
    """

    def __init__(self, judge: Judge, **options: Any) -> None:
        self._judge = judge
        super().__init__(**{"keep_in_memory": True, **options})

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description=f"Share of answers that a judge calls right. Judge: {self._judge.name}",
            citation="MERA, appendix C and Table 8 (the prompt)",
            inputs_description="predictions, references (the correct answers), questions: one text each per sample",
            features=datasets.Features({"predictions": _TEXT, "references": _TEXT, "questions": _TEXT}),
        )

    def _compute(self, predictions: list[str], references: list[str], questions: list[str]) -> dict[str, JsonValue]:
        texts = zip(questions, references, predictions, strict=True)
        return self._judge([Answer(*each) for each in texts]).to_dict()
