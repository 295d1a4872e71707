"""Reading a run folder: the one place that knows where its stages, results and logs lie."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from polysense.errors import CheckpointError
from polysense.hub.records import stage_settings, stages_in
from polysense.modality import JsonValue
from polysense.safety import read_json

logger = logging.getLogger(__name__)

_LOGS = ("log.jsonl", "*/log.jsonl", "*/*/log.jsonl")  # of one loop, or of one loop per stage
_PHASE_LOGS = "training/stage-*/*/log.jsonl"  # of one loop per phase of a stage
_KEY = re.compile(r"-[0-9a-f]{12}$")  # of a stage's settings, at the end of its name

LogLine = Mapping[str, Any]
"""One line of `log.jsonl`, with `stage` and `phase` (empty where a stage has only one) filled in."""


@dataclass(frozen=True, kw_only=True)
class StageResults:
    """One stage of a run.

    Attributes:
        number: 1 for the first.
        name: which it was given, as that of its folder.
        folder: the name of its folder now; empty where there is none.
        record: content of `stage.json`.
        metrics: content of `metrics.json`; empty where the stage was not evaluated.
    """

    number: int
    name: str
    folder: str = ""
    record: Mapping[str, JsonValue] = field(default_factory=dict)
    metrics: Mapping[str, JsonValue] = field(default_factory=dict)

    @property
    def results(self) -> Sequence[Mapping[str, Any]]:
        """The measurements of this stage."""
        return list(self.metrics.get("results") or [])

    @property
    def trained(self) -> Sequence[str]:
        """The senses that this stage trained."""
        return list(self.record.get("trained") or [])

    @property
    def phases(self) -> Sequence[Mapping[str, Any]]:
        """Settings of its trainings, where it had several."""
        return list(self.method.get("phases") or [])

    @property
    def method(self) -> Mapping[str, Any]:
        """Everything that was chosen about how it learned, where a method did (`Stage.to_dict`)."""
        return stage_settings(self.record)


@dataclass(frozen=True, kw_only=True)
class Run:
    """A run folder, read."""

    folder: Path
    stages: tuple[StageResults, ...]
    log: tuple[LogLine, ...]
    config: str = ""

    @property
    def system(self) -> str:
        """What was trained: "unialign", "mera" ..."""
        return str(self.stages[-1].record.get("system", ""))

    @property
    def chains(self) -> tuple[tuple[StageResults, ...], ...]:
        """Stages that were built on one another, longest chain first.

        Most runs are one chain. Methods that are compared in one folder share the stages that they have in common, so
        that a stage may belong to several.
        """
        by_name = {stage.name: stage for stage in self.stages}
        parents = {stage.record.get("parent") for stage in self.stages}
        found = [_chain(stage, by_name) for stage in self.stages if stage.name not in parents]
        return tuple(sorted(found, key=len, reverse=True)) or (self.stages,)


def read_run(folder: str | Path) -> Run:
    """Stages in order, log lines in order, and the resolved config of a run folder.

    Raises:
        CheckpointError: there are no stages, or one of their records is damaged.
    """
    folder = Path(folder)
    found = (_stage(each) for each in stages_in(folder / "stages"))
    stages = sorted(found, key=lambda each: (each.number, each.name))
    if not stages:
        raise CheckpointError(
            "the run has no stages", where=folder, fix="Give the output folder of `polysense train`."
        )
    config = folder / "config.yaml"
    return Run(
        folder=folder,
        stages=tuple(stages),
        log=tuple(_by_stage(read_log(folder), stages)),
        config=config.read_text(encoding="utf-8") if config.exists() else "",
    )


def read_log(folder: Path) -> list[LogLine]:
    """Log lines of a run, from `log.jsonl` in its folder and in those below.

    A line without `stage` belongs to the folder that its log lies in. Where a resumed run did a step again, the later
    line counts. A line that is no JSON object (torn off by a kill) is left out and reported.
    """
    kept: dict[tuple[Any, ...], LogLine] = {}
    places = [(path, "" if path.parent == folder else path.parent.name, "")
              for path in sorted(path for pattern in _LOGS for path in folder.glob(pattern))]  # fmt: skip
    places += [(path, path.parents[1].name, path.parent.name) for path in sorted(folder.glob(_PHASE_LOGS))]
    for path, stage, phase in places:
        for line in _lines(path):
            event = "train" if "loss" in line else ""
            entry = {"stage": stage, "phase": phase, "event": event, "step": 0, **line}
            kept[entry["stage"], entry["phase"], entry["event"], entry["step"]] = entry
    return list(kept.values())


def stage_title(name: str) -> str:
    """The name of a stage's folder without the key of its settings."""
    return _KEY.sub("", name)


def _by_stage(log: Sequence[LogLine], stages: Sequence[StageResults]) -> list[LogLine]:
    """Lines in the order of the stages, under their full names; what belongs to none (an anchor) comes first."""
    names = [stage.name for stage in stages]
    phases = {stage.name: [str(phase["name"]) for phase in stage.phases] for stage in stages}

    def full(short: str) -> str:
        return next((name for name in names if name == short or name.endswith(f"-{short}")), short)

    def place(line: LogLine) -> tuple[int, int]:
        stage, phase = line["stage"], line["phase"]
        if stage not in phases:
            return -1, 0
        return names.index(stage), phases[stage].index(phase) if phase in phases[stage] else -1

    return sorted(({**line, "stage": full(str(line["stage"]))} for line in log), key=place)


def _chain(last: StageResults, by_name: Mapping[str, StageResults]) -> tuple[StageResults, ...]:
    """The stages up to `last`, as far as they lie in one folder."""
    chain, left = [last], dict(by_name)
    left.pop(last.name)
    while (parent := left.pop(str(chain[0].record.get("parent")), None)) is not None:  # a circle of records must end
        chain.insert(0, parent)
    return tuple(chain)


def _stage(folder: Path) -> StageResults:
    record, metrics = read_json(folder / "stage.json"), folder / "metrics.json"
    if not isinstance(number := record.get("stage"), int):
        raise CheckpointError("the stage has no number", where=folder / "stage.json", fix="Let a recipe write it.")
    return StageResults(
        number=number,
        name=str(record.get("name", folder.name)),
        folder=folder.name,
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
