"""A tiny COMET recipe on the tiny world."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from polysense.recipes.comet_config import CometRecipe
from polysense.recipes.comet_downstream import DownstreamSettings
from polysense.recipes.config import build
from tests.recipes.features import pair_recipe

SILENT = DownstreamSettings()
"""Nothing is scored."""


def comet_recipe(world: Path, nets: Path, store: Path, **changes: Any) -> CometRecipe:
    """Video-text, then audio-text, three steps each, 8 and 4 codes."""
    manifests = {name: {"manifest": f"manifests/clips-{name}.jsonl"} for name in ("train", "test")}
    values = {
        "data": _pairs(world, nets, store), "codes": 8, "rows": 4, "fisher_batches": 2,
        "stages": [{"pairs": ["video-text"]}, {"pairs": ["audio-text"]}],
        "model": {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2,
                  "dropout": 0.0, "context_layers": 1, "num_experts": 2, "restart_after": 2, "information": False},
        "objective": {"information": 0.0},
        "loop": {"steps": 3, "learning_rate": 0.01, "save_every": 1, "log_every": 1, "loader_workers": 0},
        "evaluation": {
            "transfer": {"seconds": {"task": "localisation", "train": manifests["train"],
                                     "tests": {"test": manifests["test"]}, "head": {"epochs": 1}}},
            "retrieval": {"audio-text": {"senses": ["audio", "text"], "captions": 1, "data": manifests["test"]}},
            "activation": {"data": manifests["test"]},
        },
    }  # fmt: skip
    return build(CometRecipe, {**values, **changes}, "test")


def _pairs(world: Path, nets: Path, store: Path) -> dict[str, Any]:
    """The pairs of the tests of features, and one that shares no sense with film and text."""
    values = asdict(pair_recipe(world, nets, store))
    values["extractors"]["speech"] = {"encoder": "audio"}
    values["pairs"]["lonely"] = {**values["pairs"]["audio-video"], "senses": ["audio", "speech"]}
    return values


def stage_folders(output: Path) -> list[Path]:
    """Stage folders of a run, in order."""
    return sorted((output / "stages").iterdir())
