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


KEYS = {"image": "0" * 12, "alone": "a" * 12, "MERA": "b" * 12, "fine-tuning": "c" * 12}
SCORED = {  # stage to sense to CIDEr-D and accuracy
    f"stage-1-audio-{KEYS['alone']}": {"audio": (0.4, 0.6)},
    f"stage-1-image-{KEYS['image']}": {"image": (0.8, 0.5)},
    f"stage-2-audio-{KEYS['MERA']}": {"image": (0.6, 0.5), "audio": (0.4, 0.5)},
    f"stage-2-audio-{KEYS['fine-tuning']}": {"image": (0.2, 0.25), "audio": (0.4, 0.6)},
    f"stage-3-point_cloud-{KEYS['MERA']}": {"image": (0.4, 0.5), "audio": (0.3, 0.6), "point_cloud": (1.2, 0.9)},
    f"stage-3-point_cloud-{KEYS['fine-tuning']}": {"image": (0.08, 0.1), "audio": (0.1, 0.3),
                                                   "point_cloud": (1.3, 0.9)},
}  # fmt: skip


def write_mera_run(folder: Path) -> Path:
    """MERA and fine-tuning over three senses, which share the first stage, and audio alone."""
    for name, scores in SCORED.items():
        _, number, sense, key = name.split("-")
        before = {"1": None, "2": f"stage-1-image-{KEYS['image']}", "3": f"stage-2-audio-{key}"}[number]
        place = folder / "stages" / name
        place.mkdir(parents=True)
        record = stage_record(
            system="mera", stage=int(number), name=name, parent=before, trained=[sense], modalities=[*scores, "text"],
            base_model={"name": "llama", "license": "Apache-2.0"},
            hyperparameters={"method": mera_method(realigned=key == KEYS["MERA"]),
                             "conversations": {"instructions": ["describe it"]}},
        )  # fmt: skip
        measured = [
            result(task=task, metric=metric, modality=each, dataset=each, value=value, low=None, high=None,
                   chance=0.05, upper_bound=None)
            for each, values in scores.items()
            for task, metric, value in zip(("captioning", "question answering"), ("CIDEr-D (ptb)", "accuracy (x)"),
                                           values, strict=True)
        ]  # fmt: skip
        (place / "stage.json").write_text(json.dumps(record))
        (place / "metrics.json").write_text(json.dumps(metrics_record(*measured)))
        for phase in mera_method(realigned=key == KEYS["MERA"])["phases"]:
            write_phase_log(folder / "training" / name / phase["name"])
    return folder


def mera_method(*, realigned: bool, replay: float = 0.0, **options: Any) -> dict[str, Any]:
    """What a stage's record says of how it learned: `Stage.to_dict`."""
    phases = [{"name": "warm", "replay": 0.0}, {"name": "joint", "replay": replay}]
    phases += [{"name": "realign", "replay": 0.1}] * realigned
    return {"phases": phases, "options": options or {"merge": "running_average" if realigned else None}}


def write_phase_log(folder: Path) -> None:
    lines = [{"event": "train", "step": step, "loss": 4 / step, "losses": {"audio/answers": 4 / step}}
             for step in (1, 2, 3)]  # fmt: skip
    folder.mkdir(parents=True)
    (folder / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
