"""A run folder as a recipe leaves it, without its weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.hub.stages import metrics_record, result, stage_record


def write_run(folder: Path) -> Path:
    """Two stages, results of both, a log per stage."""
    results = {
        "image": result(modality="image", value=0.9, low=0.85, high=0.94, upper_bound=None),
        "depth": result(modality="depth", value=0.6, low=0.5, high=0.7, chance=0.1, upper_bound=0.8),
        "depth top5": result(modality="depth", metric="top5", value=0.8, low=None, high=None, chance=0.5),
        "retrieval": result(task="retrieval depth to text", metric="R@1", value=0.25, chance=0.005, upper_bound=None),
    }
    stages: dict[str, tuple[dict[str, Any], list[dict[str, Any]]]] = {
        "stage-1-image": (stage_record(stage=1, name="stage-1-image", parent=None, trained=["image"],
                                       modalities=["image", "text"]), [results["image"]]),
        "stage-2-depth": (stage_record(), [{**results["image"], "value": 0.88}, results["depth"],
                                           results["depth top5"], results["retrieval"]]),
    }  # fmt: skip
    for name, (record, measured) in stages.items():
        place = folder / "stages" / name
        place.mkdir(parents=True)
        (place / "stage.json").write_text(json.dumps(record))
        (place / "metrics.json").write_text(json.dumps(metrics_record(*measured)))
        write_log(folder / "training" / name.split("-")[2], sense=name.split("-")[2])
    (folder / "config.yaml").write_text("loop:\n  steps: 40\n")
    return folder


def write_log(folder: Path, sense: str) -> None:
    lines: list[dict[str, Any]] = [{"event": "start", "step": 0}]
    for step in range(2, 42, 2):
        terms = {f"{sense}/nce_text": 2 / step, f"{sense}/nce_image": 3 / step}
        lines.append({"event": "train", "step": step, "loss": 5 / step, "losses": terms, "lr": 0.1})
        if step % 20 == 0:
            lines.append(
                {"event": "evaluate", "step": step, "metrics": {f"{sense}/top1": step / 50, "image/top1": 0.9}}
            )
    folder.mkdir(parents=True)
    (folder / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
