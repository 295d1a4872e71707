"""Cells of COMET's reproduction, made up from the averages that they are to come to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from polysense.recipes.cells import Cell
from polysense.recipes.comet_cells import RAW, figure_name
from polysense.recipes.comet_scores import MEASURES
from polysense.recipes.comet_variants import FIRST, METHODS, ORDERS, SECOND, SPOKEN, cells_of

KNOWN = {
    FIRST: ({"V-T"}, {"V-T", "A-T", "V-A", "transfer"}, {"V-T", "A-T", "V-A", "transfer", "I-T", "I-A"}),
    SECOND: ({"A-T"}, {"V-T", "A-T", "V-A", "transfer"}, {"V-T", "A-T", "V-A", "transfer", "I-T", "I-A"}),
    SPOKEN: ({"V-T"}, {"V-T", "masks"}, {"V-T", "masks", "A-T", "V-A", "transfer"}),
}
"""Order to what every stage can be scored on."""


def stage(scores: Mapping[str, float], active: Sequence[float] | None = (0.1, 0.2, 0.3, 0.4)) -> dict[str, Any]:
    """A stage whose averages are these: every figure of an average is the average."""
    figures = {
        name: {"value": scores[measure], "chance": 0.1, "bound": 0.9}
        for measure, names in MEASURES.items() if measure in scores for name in names
    }  # fmt: skip
    codes: dict[str, Any] = {"active_in": None, "dead": None, "perplexity": None}
    if active is not None:
        codes = {"active_in": {str(level): share for level, share in enumerate(active)}, "dead": 0.02,
                 "perplexity": {"video": 10.0, "audio": 20.0}}  # fmt: skip
    return {"figures": figures, "codes": codes, "codebook": {"sizes": [8], "restarts_per_1000_steps": 40.0}}


def run(order: str, value: float, later: float | None = None, **active: Any) -> dict[str, Any]:
    """A cell that scores `value` on everything, and `later` on pairs of retrieval that it learned before."""
    stages, learned = [], set[str]()
    for known in KNOWN[order]:
        scores = {name: value if later is None or name not in learned else later for name in known if name != "masks"}
        if "masks" in known:
            scores |= {f"segmentation {metric}": value for metric in ("J", "F", "J&F")}
        stages.append(stage(scores, None if not learned else active.get("active", (0.1, 0.2, 0.3, 0.4))))
        learned |= {name for name in known if name.endswith("-T")}
    return {"stages": stages}


def raw() -> dict[str, Any]:
    """What heads on raw sequences reach."""
    names = [figure_name("classification audio to audio", "test", "accuracy, last epoch")]
    return {"raw": {name: {"value": 0.95, "chance": 0.1, "bound": 0.95} for name in names}}


def cells(
    values: Mapping[str, float], seeds: Sequence[int] = (0, 1, 2), default: float = 0.3
) -> dict[Cell, Mapping[str, Any]]:
    """Every cell of the report; methods that are not named score `default`."""
    assert set(values) <= set(METHODS) and set(KNOWN) <= set(ORDERS)
    found: dict[Cell, Mapping[str, Any]] = {Cell(RAW, 0): raw()}
    return found | {cell: run(cell.order, values.get(cell.method, default)) for cell in cells_of(seeds)}
