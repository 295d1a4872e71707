from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from PIL import Image

from polysense.errors import ConfigError
from polysense.world import speech

SPOKEN = Path(__file__).parents[1] / "assets" / "spoken"


def _rows() -> list[dict[str, Any]]:
    return [json.loads(line) for line in (SPOKEN / "manifest.jsonl").read_text().splitlines()]


def test_the_shipped_set_is_small_and_whole() -> None:
    files = [path for path in SPOKEN.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= 5_000_000
    entries = [entry for row in _rows() for entry in row["media"].values()]
    assert len(entries) == len(files) - 1
    for entry in entries:
        assert hashlib.sha256((SPOKEN / entry["path"]).read_bytes()).hexdigest() == entry["sha256"]


def test_every_sentence_is_spoken_at_16_khz_about_an_object_of_its_picture() -> None:
    for row in _rows()[:20]:
        wave, rate = soundfile.read(SPOKEN / row["media"]["speech"]["path"])
        assert rate == 16_000
        assert 0.4 < len(wave) / rate < 8
        assert np.abs(wave).max() > 0.3
        mask = np.asarray(Image.open(SPOKEN / row["media"]["mask"]["path"]))
        assert (mask == row["referring"][0]["object"]).sum() >= 12
        assert row["captions"]["speech"] == [row["referring"][0]["expression"]]


def test_without_the_program_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(ConfigError, match="espeak-ng is not installed"):
        speech.build_spoken_set(tmp_path)


@pytest.mark.skipif(shutil.which("espeak-ng") is None, reason="espeak-ng is not installed")
def test_a_small_set_is_spoken_again(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(speech, "_COUNTS", {"test": 2})
    manifest = speech.build_spoken_set(tmp_path)
    made = [json.loads(line) for line in manifest.read_text().splitlines()]
    shipped = {row["id"]: row for row in _rows()}
    for row in made:
        assert row["captions"] == shipped[row["id"]]["captions"]
        assert row["media"]["mask"]["sha256"] == shipped[row["id"]]["media"]["mask"]["sha256"]
