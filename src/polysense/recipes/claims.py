"""What reproductions have in common: claims with paired differences and verdicts, and the files of a report."""

from __future__ import annotations

import json
import math
from collections.abc import Hashable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from matplotlib.figure import Figure

from polysense.metrics import UNDECIDED, verdict
from polysense.metrics.intervals import interval
from polysense.report import to_png
from polysense.storage import write_whole

Seed = TypeVar("Seed", bound=Hashable)
NOT_MEASURED, ONE_SEED = "not measured", "one seed, which decides nothing"


def paired(better: Mapping[Seed, float], worse: Mapping[Seed, float]) -> list[float]:
    """Differences by seed, of the seeds that both sides have."""
    return [value - worse[seed] for seed, value in better.items() if seed in worse]


def claim(measure: str, values: Sequence[float]) -> dict[str, Any]:
    """A claim that stands if `values`, one per seed, are above zero."""
    return {"measure": measure, "values": list(values), **interval(values), "verdict": judged(values)}


def judged(values: Sequence[float]) -> str:
    """The verdict on values that are to be above zero, one per seed."""
    return verdict(values) if len(values) > 1 else ONE_SEED


def exact_claim(measure: str, values: Sequence[float], *, holds: bool) -> dict[str, Any]:
    """A claim on figures without chance in them, which have no interval."""
    return {"measure": measure, "values": list(values), "verdict": "reproduced" if holds else "not reproduced"}


def unmeasured(measure: str, reason: str) -> dict[str, Any]:
    """A claim that nothing was measured for, and why."""
    return {"measure": measure, "values": [], "verdict": NOT_MEASURED, "reason": reason}


def undecided(table: Mapping[str, Mapping[str, Any]], compared: Mapping[str, Iterable[str]]) -> list[str]:
    """Methods whose comparison the seeds so far leave open.

    Args:
        table: claims by name.
        compared: claim to the methods that it compares; they are run with more seeds.
    """
    return sorted(
        {method for name, methods in compared.items() if table[name]["verdict"] == UNDECIDED for method in methods}
    )


def by_number(table: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    """Claims in the order of their numbers, such as "ME2 (mean)" with the prefix "ME"; what has none comes last."""

    def number(name: str) -> float:
        first = name.split()[0].removeprefix(prefix)
        return float(first) if first.isdigit() else math.inf

    return dict(sorted(table.items(), key=lambda item: number(item[0])))


def write_report(path: Path, report: Mapping[str, Any], markdown: str, figure: Figure) -> Path:
    """The report as JSON at `path`, and beside it its tables (.md) and plots (.png); `path` is returned."""
    write_whole(path, json.dumps(report, indent=1, allow_nan=False) + "\n")
    write_whole(path.with_suffix(".md"), markdown)
    write_whole(path.with_suffix(".png"), to_png(figure))
    return path


__all__ = [
    "NOT_MEASURED", "by_number", "claim", "exact_claim", "interval", "judged", "paired", "undecided", "unmeasured",
    "write_report",
]  # fmt: skip
