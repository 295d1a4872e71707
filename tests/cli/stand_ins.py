"""Stand-ins for what the commands call, and small files to call them on."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any
from unittest.mock import create_autospec

import numpy as np
import pytest
import soundfile
from PIL import Image


def stand_in(monkeypatch: pytest.MonkeyPatch, target: str, value: Any = None) -> Any:
    """Put in place of a function one that refuses other arguments than it, returns `value` and keeps its calls."""
    module, _, name = target.rpartition(".")
    function = create_autospec(getattr(import_module(module), name), return_value=value)
    monkeypatch.setattr(target, function)
    return function


def write_media(folder: Path) -> Path:
    """One small file of every kind, under names that say nothing or lie."""
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 255, (40, 40, 3), dtype=np.uint8)).save(folder / "photo.png")
    Image.fromarray(rng.integers(500, 3000, (40, 40)).astype(np.uint16)).save(folder / "deep.png")
    soundfile.write(folder / "sound.wav", rng.normal(0, 0.1, 16000).astype(np.float32), 16000)
    np.save(folder / "cloud.npy", rng.normal(size=(64, 3)).astype(np.float32))
    np.save(folder / "metres.npy", rng.uniform(1, 3, (40, 40)).astype(np.float32))
    np.save(folder / "unclear.npy", np.zeros((2, 3, 4), dtype=np.float32))
    (folder / "words.txt").write_text("a red cube")
    (folder / "empty.png").write_bytes(b"")
    (folder / "cut.png").write_bytes((folder / "photo.png").read_bytes()[:60])
    (folder / "photo.wav").write_bytes((folder / "photo.png").read_bytes())
    return folder
