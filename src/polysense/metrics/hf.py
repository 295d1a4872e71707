"""MERA's metrics as `evaluate` modules, made directly: `CiderMetric().compute(...)` needs no network."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import datasets
import evaluate

from polysense.errors import ConfigError
from polysense.metrics.captioning import cider_d
from polysense.metrics.gains import relative_gains
from polysense.metrics.judging import Answer, Judge
from polysense.modality import JsonValue

__all__ = ["CiderMetric", "JudgeAccuracyMetric", "RelativeGainsMetric"]

_TEXT, _NUMBER, _COUNT = (datasets.Value(kind) for kind in ("string", "float64", "int64"))


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


class RelativeGainsMetric(evaluate.Metric):
    """Relative gains of a model that grew sense by sense (see `relative_gains`), from one row per score.

    `compute(predictions=[...], references=[...], stages=[...], modalities=[...], tasks=[...])` takes what a stage
    scored on a task of a modality, what that modality's expert scores there, and which stage (from 1), modality and
    task that was. A modality was learned in the first stage that has a score of it.

    Gives `backward` and `forward` of every stage, and `backward_mean` and `backward_deviation` over all stages.

    Raises:
        ConfigError: see `relative_gains`; or a stage that learns none or several modalities, two rows for one score,
            or two scores of one expert.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"keep_in_memory": True, **options})

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description="Scores of a model that grew sense by sense, relative to one expert per sense.",
            citation="MERA, section 5.1 (Table 2: mean and deviation over the stages)",
            inputs_description="predictions, references (the expert's): one score each per stage, modality and task",
            features=datasets.Features({"predictions": _NUMBER, "references": _NUMBER, "stages": _COUNT,
                                        "modalities": _TEXT, "tasks": _TEXT}),
        )  # fmt: skip

    def _compute(
        self, predictions: list[float], references: list[float], stages: list[int], modalities: list[str],
        tasks: list[str],
    ) -> dict[str, JsonValue]:  # fmt: skip
        scored: dict[int, dict[str, dict[str, float]]] = {}
        experts: dict[str, dict[str, float]] = {}
        for score, expert, stage, modality, task in zip(
            predictions, references, stages, modalities, tasks, strict=True
        ):
            own = scored.setdefault(stage, {}).setdefault(modality, {})
            known = experts.setdefault(modality, {}).setdefault(task, expert)
            if task in own or known != expert:
                raise ConfigError("there are two scores of it", where=f"stage {stage}: {modality}: {task}",
                                  fix="Give one row per stage, modality and task, and one per expert.")  # fmt: skip
            own[task] = score
        numbers = sorted(scored)
        found = relative_gains(_order(numbers, scored), [scored[number] for number in numbers], experts)
        return {
            "backward": list(found.backward), "forward": list(found.forward),
            "backward_mean": found.backward_mean, "backward_deviation": found.backward_deviation,
        }  # fmt: skip


def _order(numbers: Sequence[int], scored: dict[int, dict[str, Any]]) -> list[str]:
    """The modality that every stage learned: the one that no stage before has a score of."""
    order: list[str] = []
    for number in numbers:
        new = [modality for modality in scored[number] if modality not in order]
        if len(new) != 1:
            raise ConfigError(f"the modalities {new} are new", where=f"stage {number}",
                              fix="Give the scores of every stage, each of which learns one modality.")  # fmt: skip
        order += new
    return order
