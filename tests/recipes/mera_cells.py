"""Cells of MERA's reproduction, made up from the gains that they are to come to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from polysense.recipes.cells import Cell
from polysense.recipes.mera_gains import EXPERT
from polysense.recipes.mera_world import ORDERS

EXPERTS = {"image": (1.0, 0.4), "video": (1.4, 0.5), "audio": (0.6, 0.7), "point_cloud": (0.9, 0.6)}
"""Sense to its expert's CIDEr-D and accuracy."""


def results(scores: Mapping[str, tuple[float, float]]) -> list[dict[str, Any]]:
    """As a stage's metrics have them."""
    return [
        {"task": task, "modality": sense, "value": value}
        for sense, both in scores.items()
        for task, value in zip(("captioning", "question answering"), both, strict=True)
    ]


def stage(
    scores: Mapping[str, tuple[float, float]], seconds: float = 10.0, hashes: Mapping[str, str] | None = None
) -> dict[str, Any]:
    return {"results": results(scores), "seconds": seconds, "hashes": dict(hashes or {})}


def expert(sense: str) -> dict[str, Any]:
    return {"stages": [stage({sense: EXPERTS[sense]})]}


def learner(
    order: str, backward: Sequence[float], forward: Sequence[float] = (1.0, 1.0, 1.0), seconds: float = 10.0,
    peak: float | None = 100.0,
) -> dict[str, Any]:  # fmt: skip
    """A cell whose gains after stages 2, 3 and 4 are the given ones."""
    senses, stages = ORDERS[order], [stage({ORDERS[order][0]: EXPERTS[ORDERS[order][0]]}, seconds)]
    for number, (kept, new) in enumerate(zip(backward, forward, strict=True), start=2):
        parts = dict.fromkeys(senses[: number - 1], kept) | {senses[number - 1]: new}
        scores = {sense: (part * EXPERTS[sense][0], part * EXPERTS[sense][1]) for sense, part in parts.items()}
        stages.append(stage(scores, seconds))
    return {"stages": stages, "peak_mib": peak}


def cells(
    methods: Mapping[str, Sequence[float]], seeds: Sequence[int] = (0, 1, 2), step: float = 0.0, **options: Any
) -> dict[Cell, Mapping[str, Any]]:
    """Every method in both orders with the same gains, `step` more for every further seed; and all experts."""
    found: dict[Cell, Mapping[str, Any]] = {}
    for seed in seeds:
        found |= {Cell(EXPERT, seed, sense): expert(sense) for sense in EXPERTS}
        for method, backward in methods.items():
            shifted = [each + step * seed for each in backward]
            for order in ("sequential", "reverse"):
                found[Cell(method, seed, order)] = learner(order, shifted, **options)
    return found
