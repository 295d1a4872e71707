"""Reading a run folder: the one place that knows where its stages, results and logs lie."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from polysense.errors import CheckpointError
from polysense.modality import JsonValue
from polysense.safety import read_json

logger = logging.getLogger(__name__)

_LOGS = ("log.jsonl", "*/log.jsonl", "*/*/log.jsonl")  # of one loop, or of one loop per stage

LogLine = Mapping[str, Any]
"""One line of `log.jsonl`, with `stage` filled in."""


@dataclass(frozen=True, kw_only=True)
class StageResults:
    """One stage of a run.

    Attributes:
        number: 1 for the first.
        name: of its folder.
        record: content of `stage.json`.
        metrics: content of `metrics.json`; empty where the stage was not evaluated.
    """

    number: int
    name: str
    record: Mapping[str, JsonValue] = field(default_factory=dict)
    metrics: Mapping[str, JsonValue] = field(default_factory=dict)

    @property
    def results(self) -> Sequence[Mapping[str, Any]]:
        """The measurements of this stage."""
        return list(self.metrics.get("results") or [])


@dataclass(frozen=True, kw_only=True)
class Run:
    """A run folder, read."""

    folder: Path
    stages: tuple[StageResults, ...]
    log: tuple[LogLine, ...]
    config: str = ""


def read_run(folder: str | Path) -> Run:
    """Stages in order, log lines in order, and the resolved config of a run folder.

    Raises:
        CheckpointError: there are no stages, or one of their records is damaged.
    """
    folder = Path(folder)
    stages = sorted((_stage(path.parent) for path in folder.glob("stages/*/stage.json")), key=lambda each: each.number)
    if not stages:
        raise CheckpointError(
            "the run has no stages", where=folder, fix="Give the output folder of `polysense train`."
        )
    config = folder / "config.yaml"
    return Run(
        folder=folder,
        stages=tuple(stages),
        log=tuple(_by_stage(read_log(folder), [stage.name for stage in stages])),
        config=config.read_text(encoding="utf-8") if config.exists() else "",
    )


def read_log(folder: Path) -> list[LogLine]:
    """Log lines of a run, from `log.jsonl` in its folder and in those below.

    A line without `stage` belongs to the folder that its log lies in. Where a resumed run did a step again, the later
    line counts. A line that is no JSON object (torn off by a kill) is left out and reported.
    """
    kept: dict[tuple[Any, ...], LogLine] = {}
    for path in sorted(path for pattern in _LOGS for path in folder.glob(pattern)):
        default = "" if path.parent == folder else path.parent.name
        for line in _lines(path):
            entry = {"stage": default, "event": "train" if "loss" in line else "", "step": 0, **line}
            kept[entry["stage"], entry["event"], entry["step"]] = entry
    return list(kept.values())


def _by_stage(log: Sequence[LogLine], names: Sequence[str]) -> list[LogLine]:
    """Lines in the order of the stages, under their full names; those of other phases (an anchor's) come first."""

    def full(short: str) -> str:
        return next((name for name in names if name == short or name.endswith(f"-{short}")), short)

    lines = [{**line, "stage": full(str(line["stage"]))} for line in log]
    return sorted(lines, key=lambda line: names.index(line["stage"]) if line["stage"] in names else -1)


def _stage(folder: Path) -> StageResults:
    record, metrics = read_json(folder / "stage.json"), folder / "metrics.json"
    if not isinstance(number := record.get("stage"), int):
        raise CheckpointError("the stage has no number", where=folder / "stage.json", fix="Let a recipe write it.")
    return StageResults(
        number=number,
        name=str(record.get("name", folder.name)),
        record=record,
        metrics=read_json(metrics) if metrics.exists() else {},
    )


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    for number, text in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), start=1):
        try:
            entry = json.loads(text)
        except ValueError:
            logger.warning("%s: line %d is no JSON and was left out", path, number)
            continue
        if isinstance(entry, dict):
            yield entry
