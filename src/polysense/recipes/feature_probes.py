"""What linear classifiers read out of feature sequences, per step and per sample."""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from polysense.data.event_tables import BACKGROUND
from polysense.data.feature_sequences import FeatureSequences
from polysense.errors import ConfigError
from polysense.metrics import linear_probe
from polysense.recipes.config import place
from polysense.recipes.feature_pairs import PairRecipe, PairStages, ProbeSettings
from polysense.recipes.provenance import command, commit
from polysense.storage import write_whole
from polysense.trainer.distributed import on_main

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class ProbeResult:
    """One figure.

    Attributes:
        accuracy: share of the tested steps or samples whose class is found.
        foreground: the same without those whose class is "background"; `None` where there is no such class.
        chance: share of the most frequent class of what `foreground` (or else `accuracy`) counts.
        classes: number of classes in training.
        count: tested steps or samples.
    """

    sense: str
    target: str
    of: str
    train: str
    test: str
    accuracy: float
    foreground: float | None
    chance: float
    classes: int
    count: int


def probe_features(recipe: PairRecipe, output: Path) -> list[ProbeResult]:
    """Score every probe of a recipe; the results are logged, and written to `output/probes.json`.

    Raises:
        ConfigError: a probe of unknown pairs or senses, or without labels.
    """
    stages, results = PairStages(recipe), []
    for number, settings in enumerate(recipe.probes):
        opened = stages.begin(list(dict.fromkeys((settings.train, settings.test))))
        with place(f"probes[{number}]"):
            results.append(_result(settings, opened[settings.train], opened[settings.test]))
        logger.info("probe of %s: %s", settings.sense, _told(results[-1]))
    content = {"command": command(), "commit": commit(), "results": [asdict(result) for result in results]}
    on_main(lambda: write_whole(output / "probes.json", json.dumps(content, indent=1) + "\n"))
    return results


def _result(settings: ProbeSettings, train: FeatureSequences, test: FeatureSequences) -> ProbeResult:
    (rows, labels), (asked, truth) = _table(settings, train), _table(settings, test)
    found = linear_probe(rows, labels, asked)
    right = [guess == label for guess, label in zip(found, truth, strict=True)]
    inner = [hit for hit, label in zip(right, truth, strict=True) if label != BACKGROUND]
    counted = [label for label in truth if label != BACKGROUND]
    return ProbeResult(
        sense=settings.sense, target=settings.target, of=settings.of or settings.sense, train=settings.train,
        test=settings.test, accuracy=sum(right) / len(right),
        foreground=sum(inner) / len(inner) if 0 < len(inner) < len(right) else None,
        chance=max(Counter(counted or truth).values()) / len(counted or truth), classes=len(set(labels)),
        count=len(truth),
    )  # fmt: skip


def _table(settings: ProbeSettings, pairs: FeatureSequences) -> tuple[Float[Tensor, "rows dim"], list[str]]:
    """Features and labels of every step, or of every sample."""
    if settings.sense not in pairs.senses:
        raise ConfigError(f"there are no features of {settings.sense!r} to probe", fix="Name a sense of the pairs.")
    rows, labels = [], []
    of = settings.of or settings.sense
    for index in range(len(pairs)):
        sample = pairs[index]
        source: Any = sample.media[settings.sense].source
        steps = source[0].flatten(1)
        if settings.target == "label":
            if of in sample.labels:
                rows.append(steps.mean(dim=0, keepdim=True))
                labels.append(sample.labels[of])
            continue
        told = _told_seconds(sample.extra, settings.target, of)
        if len(told) == len(steps):
            rows.append(steps)
            labels += told
    if not rows:
        raise ConfigError(f"no sample has {settings.target} of {of!r} for every step",
                          fix="Probe a data set with such labels.")  # fmt: skip
    return torch.cat(rows), labels


def _told_seconds(row: Mapping[str, Any], target: str, of: str) -> list[str]:
    """The event of every second as a sense has it, or an attribute of the event; empty where the row has none."""
    seconds, scene = (row.get(key) for key in ("seconds", "scene"))
    events = [str(event) for event in seconds.get(of, ())] if isinstance(seconds, Mapping) else []
    if target == "seconds":
        return events
    told = scene.get("events", ()) if isinstance(scene, Mapping) else ()
    known = {str(event["event"]): str(event[target]) for event in told if target in event}
    return [known.get(event, event) for event in events] if known else []


def _told(result: ProbeResult) -> str:
    inner = "" if result.foreground is None else f", without background {100 * result.foreground:.1f} %"
    figures = f"{100 * result.accuracy:.1f} %{inner} (chance {100 * result.chance:.1f} %"
    return f"{result.target} of {result.of} {figures}, {result.classes} classes, {result.count} rows of {result.test})"
