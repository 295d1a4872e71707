"""What stages still know of their senses, as shares of what models that learned one sense alone know (MERA, 5.1)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from polysense.errors import ConfigError
from polysense.hub.records import lineage, read_metrics, read_stage, stage_settings, stages_in
from polysense.metrics import relative_gain

Scores = Mapping[str, float]
Results = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class StageGains:
    """Relative gains of one stage, as shares; `None` where a score that they need is not known.

    Attributes:
        backward: mean over the senses of the stages before.
        forward: of the sense that the stage learned.
    """

    backward: float | None
    forward: float | None


def task_scores(results: Results, sense: str, field: str = "value") -> dict[str, float]:
    """Task to what a stage scored on a sense; several data sets of one task count alike."""
    found: dict[str, list[float]] = {}
    for result in results:
        if result["modality"] == sense and result.get(field) is not None:
            found.setdefault(result["task"], []).append(result[field])
    return {task: fmean(values) for task, values in found.items()}


def alone_scores(stages: Iterable[tuple[Mapping[str, Any], Results]]) -> dict[str, Scores]:
    """Sense to the scores of the model that learned it first of all, and so alone.

    Args:
        stages: record and results of each.
    """
    return {record["trained"][0]: task_scores(results, record["trained"][0]) for record, results in stages
            if record.get("parent") is None and len(record.get("trained") or ()) == 1}  # fmt: skip


def mean_gain(results: Results, senses: Sequence[str], alone: Mapping[str, Scores]) -> float | None:
    """Mean relative gain over senses; `None` for none, or where a score is missing or of nothing to compare with."""
    if not senses or not set(senses) <= set(alone):
        return None
    try:
        return fmean(relative_gain(task_scores(results, each), alone[each]) for each in senses)
    except ConfigError:
        return None


def chain_gains(folder: Path) -> dict[str, StageGains]:
    """Name to gains of a stage and of those that it was built on, as far as their folders lie beside it.

    Only models compare that learned a sense alone by the encoder and connector that the chain has for it.

    Raises:
        CheckpointError: a record is damaged.
    """
    own = folder.resolve()  # hidden while it is being written
    folders = sorted({own, *stages_in(own.parent)})
    read = [(read_stage(each), list((read_metrics(each) or {}).get("results") or [])) for each in folders]
    chain = [*lineage(folder), read_stage(folder)]
    parts = {sense: _parts(record) for record in chain for sense in record["trained"]}
    alike = [(record, found) for record, found in read
             if all(parts.get(sense) == _parts(record) for sense in record["trained"])]  # fmt: skip
    alone, results = alone_scores(alike), {record["name"]: found for record, found in read}
    gains, seen = dict[str, StageGains](), list[str]()
    for record in chain:
        scored = results[record["name"]]
        gains[record["name"]] = StageGains(mean_gain(scored, seen, alone), mean_gain(scored, record["trained"], alone))
        seen += record["trained"]
    return gains


def _parts(record: Mapping[str, Any]) -> Any:
    """What a stage's sense was learned by: settings of its encoder and connector, where the record has any."""
    return dict(stage_settings(record).get("options") or {}).get("sense")


__all__ = ["StageGains", "alone_scores", "chain_gains", "mean_gain", "task_scores"]
