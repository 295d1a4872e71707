"""One tiny world for all tests of the area."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from polysense.world import WorldConfig, WorldSummary, build_world
from polysense.world.config import Difficulty
from polysense.world.rng import generator

Rows = list[dict[str, Any]]

COUNTS = {
    "stills": {"train": 10, "validation": 1, "test": 4, "compositional": 4},
    "clips": {"train": 6, "validation": 1, "test": 2, "compositional": 2},
}


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> WorldSummary:
    folder = tmp_path_factory.mktemp("world")
    return build_world(folder, WorldConfig(size="test", counts=COUNTS), workers=1, progress=False)


@pytest.fixture(scope="session")
def rows(world: WorldSummary) -> Callable[[str], Rows]:
    def read(manifest: str) -> Rows:
        return [json.loads(line) for line in world.manifest(manifest).read_text().splitlines()]

    return read


@pytest.fixture
def root(world: WorldSummary) -> Path:
    return world.directory


@pytest.fixture
def standard() -> Difficulty:
    return Difficulty.named("standard")


@pytest.fixture
def stream() -> Callable[[str], np.random.Generator]:
    return lambda part: generator(0, "test", part)
