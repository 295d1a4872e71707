"""What tests of several models begin with."""

from __future__ import annotations

import pytest

import polysense.modality as registry
from polysense.modality import Modality, register_modality
from polysense.processing import GridProcessor


@pytest.fixture
def thermal(monkeypatch: pytest.MonkeyPatch) -> Modality:
    """A sense that the library does not have, registered for one test only."""
    monkeypatch.setattr(registry, "_SPECS", dict(registry._SPECS))
    monkeypatch.setattr(registry, "_PROCESSORS", dict(registry._PROCESSORS))
    return register_modality(Modality(name="thermal", kind="grid", channels=1), GridProcessor)
