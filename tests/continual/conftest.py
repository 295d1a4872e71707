"""What several tests of stages begin with."""

from __future__ import annotations

from pathlib import Path

import pytest

from polysense.continual.methods import FreshLora
from tests.continual.methods.chain import Chain


@pytest.fixture
def chain(tmp_path: Path) -> Chain:
    """Stages of which the first is trained."""
    stages = Chain(tmp_path)
    stages.learn(FreshLora(merge=None), 1)
    return stages
