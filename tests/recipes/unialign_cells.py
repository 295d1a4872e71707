"""Cells of UniAlign's reproduction, made up from the accuracies that they are to come to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from polysense.recipes.cells import Cell
from polysense.recipes.unialign_claims import SENSES


def record(top1: float, chance: float = 0.1, unchanged: bool = True, **changed: float) -> dict[str, Any]:
    """A cell of one accuracy for all senses but those that are given; a quarter less on "compositional"."""
    task = {"task": "zero-shot classification", "chance": chance}
    results = [
        {**task, "modality": sense, "metric": metric, "dataset": f"manifests/x-{split}", "value": value * part}
        for sense, value in {**dict.fromkeys(SENSES, top1), **changed}.items()
        for split, part in (("test", 1.0), ("compositional", 0.75))
        for metric in ("top5", "top1")
    ]
    recalls = {"text to audio": 0.3, "text to video": 0.4, "text to audio+video": 0.5 + top1 / 100}
    hits = {"depth to image": 0.3, "colour to image": 0.1, "depth+colour to image": 0.2 - top1 / 100}
    found = {**{name: {"R@5": r} for name, r in recalls.items()}, **{name: {"hit@5": h} for name, h in hits.items()}}
    return {"results": results, "image_path_unchanged": unchanged, "composed": found}


def records(parts: str = "", **changed: dict[int, float]) -> dict[Cell, Mapping[str, Any]]:
    """Cells of three seeds, in no order; joint reaches 0.60, 0.62, 0.64."""
    top1 = {
        "joint": {0: 0.6, 1: 0.62, 2: 0.64},
        "global": {0: 0.5, 1: 0.52, 2: 0.54},
        "nce": {0: 0.5, 1: 0.72, 2: 0.64},
        "incremental": dict.fromkeys(range(3), 0.4),
        **changed,
    }
    cells: dict[Cell, Mapping[str, Any]] = {
        Cell(method, seed, parts=parts): record(values[seed])
        for seed in (2, 0, 1) for method, values in top1.items() if seed in values
    }  # fmt: skip
    bounds = {"bounds": dict.fromkeys(SENSES, 0.8)}
    return {**cells, **{Cell("bounds", seed, parts=parts): bounds for seed in range(3)}}
