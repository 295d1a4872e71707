"""What a user of a stage should not expect: as it was recorded, and as its figures show."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

_SCORED = (
    "It was trained on the data listed above and scored on those under Metrics; how it does on others is not known."
)
_TRAINED = "It was trained on the data listed above and not scored at all; how well it does is not known."


def limits(stage: Mapping[str, Any], metrics: Mapping[str, Any] | None) -> list[str]:
    """Sentences, the recorded ones first.

    Args:
        stage: a checked `stage.json`.
        metrics: a checked `metrics.json`, if there is one.
    """
    results = metrics["results"] if metrics else []
    found = [*map(str, stage["limits"]), _SCORED if results else _TRAINED]
    if results:
        scored = {word for each in results for word in re.findall(r"\w+", f"{each['modality']} {each['task']}")}
        unscored = [sense for sense in stage["trained"] if sense not in {*scored, "text"}]
        found += [f"{sense} was trained and not scored." for sense in unscored]
    return found + _at_chance(results)


def _at_chance(results: list[Mapping[str, Any]]) -> list[str]:
    """Per sense, where the interval of a task's first figure reaches down to chance."""
    first: dict[tuple[str, str, str], Mapping[str, Any]] = {}
    for each in results:
        first.setdefault((each["modality"], each["task"], each["dataset"]), each)
    poor: dict[str, list[str]] = {}
    for each in first.values():
        low, chance = each.get("low"), each.get("chance")
        if low is not None and chance is not None and low <= chance:
            poor.setdefault(each["modality"], []).append(f"{each['task']} ({each['dataset']}, {each['metric']})")
    return [f"No better than chance, within its interval, with {sense}: {'; '.join(where)}."
            for sense, where in poor.items()]  # fmt: skip


__all__ = ["limits"]
