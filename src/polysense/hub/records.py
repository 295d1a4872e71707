"""`stage.json` and `metrics.json`: what a stage's folder says of how it came about and how good it is."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import chain, count
from pathlib import Path
from typing import Any

from polysense.errors import CheckpointError
from polysense.modality import JsonValue
from polysense.safety import read_json

Record = Mapping[str, JsonValue]

_OPTIONAL_TEXT = (str, type(None))
_NUMBER = (int, float)
_OPTIONAL_NUMBER = (int, float, type(None))
_STAGE: dict[str, tuple[type, ...]] = {
    "system": (str,), "stage": (int,), "name": (str,), "parent": _OPTIONAL_TEXT, "trained": (list, tuple),
    "modalities": (list, tuple), "base_model": (Mapping,), "data": (list, tuple), "frozen": (Mapping,),
    "parameters": (Mapping,), "hyperparameters": (Mapping,), "seed": (int,), "steps": (int,), "seconds": _NUMBER,
    "versions": (Mapping,), "command": (str,), "commit": _OPTIONAL_TEXT, "limits": (list, tuple),
}  # fmt: skip
_STAGE_FOLDER = "Give one that a recipe wrote, such as runs/x/stages/stage-1-depth; other models have push_to_hub."
_NAMED: dict[str, tuple[type, ...]] = {"name": (str,), "license": _OPTIONAL_TEXT}
_DATA: dict[str, tuple[type, ...]] = {**_NAMED, "samples": (int,), "content_hash": _OPTIONAL_TEXT}
_METRICS: dict[str, tuple[type, ...]] = {
    "command": (str,), "seed": (int,), "commit": _OPTIONAL_TEXT, "results": (list, tuple),
}  # fmt: skip
_RESULT: dict[str, tuple[type, ...]] = {
    "task": (str,), "modality": (str,), "dataset": (str,), "metric": (str,), "value": _NUMBER,
}  # fmt: skip
_RESULT_EXTRA: dict[str, tuple[type, ...]] = dict.fromkeys(
    ("low", "high", "chance", "upper_bound", "count"), _OPTIONAL_NUMBER
)


def read_stage(folder: Path) -> dict[str, Any]:
    """`stage.json` of a folder, checked. Raises `CheckpointError`."""
    if not (folder / "stage.json").is_file():
        what = "this is no folder of a stage, which has a stage.json" if folder.is_dir() else "there is no such folder"
        raise CheckpointError(what, where=folder, fix=_STAGE_FOLDER)
    return check_stage(read_json(folder / "stage.json"), where=str(folder / "stage.json"))


def read_metrics(folder: Path) -> dict[str, Any] | None:
    """`metrics.json` of a folder, checked; `None` where there is none. Raises `CheckpointError`."""
    path = folder / "metrics.json"
    return check_metrics(read_json(path), where=str(path)) if path.exists() else None


def stages_in(folder: Path) -> list[Path]:
    """The stages' folders within one, by name. One that is being written, or was when its process died, is hidden."""
    found = (path.parent for path in folder.glob("*/stage.json"))
    return sorted(each for each in found if not each.name.startswith("."))


def lineage(folder: Path) -> list[dict[str, Any]]:
    """The stages that `folder` was built on, first to last, as far as they lie beside it and name one another."""
    beside = [read_stage(each) for each in stages_in(folder.resolve().parent)]
    by_name = {each["name"]: each for each in beside}
    chain = [read_stage(folder)]
    by_name.pop(chain[0]["name"], None)
    while (parent := by_name.pop(chain[0]["parent"], None)) is not None:  # popped: records in a circle must end, too
        chain.insert(0, parent)
    return chain[:-1]


def stage_settings(stage: Record) -> dict[str, Any]:
    """All that was chosen about how a stage learned (`Stage.to_dict`); empty where the record has none of it."""
    chosen = stage.get("hyperparameters")
    found = chosen.get("method") if isinstance(chosen, Mapping) else None
    return dict(found) if isinstance(found, Mapping) else {}


def check_stage(stage: Record, *, where: str = "stage.json") -> dict[str, Any]:
    """The record, if it has everything a card needs.

    Raises:
        CheckpointError: naming the key that is missing or mistyped.
    """
    _check(stage, _STAGE, where)
    _check(stage["base_model"], _NAMED, f"{where}: base_model")
    for index, each in enumerate(stage["data"]):
        _check(each, _DATA, f"{where}: data[{index}]")
    for part, counts in stage["parameters"].items():
        pair = isinstance(counts, list | tuple) and len(counts) == 2
        if not pair or not all(isinstance(count, int) for count in counts):
            raise CheckpointError("the entry is not [all, trainable]", where=f"{where}: parameters: {part}",
                                  fix="Write the parameter table of the model.")  # fmt: skip
    if not stage["parameters"] or not stage["modalities"]:
        raise CheckpointError("the stage has no parameters or no senses", where=where, fix="Write the stage again.")
    return dict(stage)


def check_metrics(metrics: Record, *, where: str = "metrics.json") -> dict[str, Any]:
    """The record, if every result says what was measured on what.

    Raises:
        CheckpointError: naming the key that is missing or mistyped.
    """
    _check(metrics, _METRICS, where)
    for index, each in enumerate(metrics["results"]):
        _check(each, _RESULT, f"{where}: results[{index}]")
        _check({**dict.fromkeys(_RESULT_EXTRA), **each}, _RESULT_EXTRA, f"{where}: results[{index}]")
    return dict(metrics)


def distinct(results: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The results of one stage; what was measured on a second data set of the same name gets a name of its own."""
    named: dict[tuple[str, ...], dict[str, Any]] = {}
    for result in results:
        figure, name = [str(result[key]) for key in ("task", "metric", "modality")], str(result["dataset"])
        names = chain([name], (f"{name} ({number})" for number in count(2)))
        own = next(each for each in names if (*figure, each) not in named)
        named[*figure, own] = {**result, "dataset": own}
    return list(named.values())


def _check(record: Any, expected: Mapping[str, tuple[type, ...]], where: str) -> None:
    if not isinstance(record, Mapping):
        raise CheckpointError("the entry is no JSON object", where=where, fix="Let a recipe write it.")
    if missing := sorted(set(expected) - set(record)):
        raise CheckpointError(f"the keys {missing} are missing", where=where, fix="Let a recipe write the file again.")
    for key, kinds in expected.items():
        if not isinstance(record[key], kinds) or isinstance(record[key], bool):
            raise CheckpointError(f"{key} is of type {type(record[key]).__name__}", where=where,
                                  fix=f"Give {' or '.join(kind.__name__ for kind in kinds)}.")  # fmt: skip
