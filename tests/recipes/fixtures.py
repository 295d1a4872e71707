"""A tiny world, a tiny anchor and whole tiny runs, shared by the tests of recipes and of shipped configs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from polysense.recipes import unialign
from polysense.testing import tiny_anchor
from polysense.world import WorldConfig, build_world

STEPS = 5
SENSES = ("depth", "point_cloud", "video", "audio")


@dataclass(frozen=True)
class Parts:
    """What recipes begin with: the folders of a tiny world and of a tiny anchor."""

    world: Path
    anchor: Path

    def overrides(self, *more: str, steps: int = STEPS) -> list[str]:
        """Overrides that make a world recipe tiny."""
        batches = [f"sources.{sense}.batch_size=4" for sense in SENSES]
        points = [f"senses.point_cloud.{key}=8" for key in ("tokenizer.groups", "processor.num_groups")]
        return [
            f"data_root={self.world}", "world.size=tiny", f"anchor={self.anchor}", "bounds=0", *batches, *points,
            "senses.point_cloud.processor.group_size=8", "senses.video.processor.num_frames=5",
            f"loop.steps={steps}", "loop.log_every=1", "loop.save_every=2", "loop.warmup_steps=1",
            "evaluation.limit=8", "evaluation.pool=8", "evaluation.splits.compositional=[]", *more,
        ]  # fmt: skip


@cache
def _parts(base: Path) -> Parts:
    build_world(base / "tiny-world", WorldConfig(size="tiny"), workers=1, progress=False)
    return Parts(base / "tiny-world", tiny_anchor(base / "anchor"))


@cache
def _run(base: Path, config: str) -> Path:
    unialign.run(config, base / config, _parts(base).overrides())
    return base / config


# Two folders of tests import these fixtures, which makes two of each; what they give is made once all the same.


@pytest.fixture(scope="session")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Parts:
    return _parts(tmp_path_factory.getbasetemp() / "recipes")


@pytest.fixture(scope="session")
def joint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run folder of `world.yaml`, tiny."""
    return _run(tmp_path_factory.getbasetemp() / "recipes", "world")


@pytest.fixture(scope="session")
def incremental(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run folder of `world-incremental.yaml`, tiny."""
    return _run(tmp_path_factory.getbasetemp() / "recipes", "world-incremental")


def stages(output: Path) -> list[Path]:
    """Stage folders of a run, in order."""
    return sorted((output / "stages").iterdir())


def losses(output: Path) -> dict[str, list[float]]:
    """Loss of every step of every training in a run folder."""
    return {
        log.parent.name: [line["loss"] for line in events(log) if line["event"] == "train"]
        for log in sorted((output / "training").glob("*/log.jsonl"))
    }


def events(log: Path) -> Sequence[dict[str, Any]]:
    """Lines of a log."""
    return [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
