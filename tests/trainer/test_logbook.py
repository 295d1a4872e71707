from __future__ import annotations

import io
import json
import logging
from pathlib import Path

import pytest

from polysense.trainer.logbook import Logbook


def test_lines_are_appended_and_a_torn_one_is_dropped(tmp_path: Path) -> None:
    path = tmp_path / "run/log.jsonl"
    path.parent.mkdir()
    path.write_text('{"event": "start", "step": 0}\n{"event": "tra')
    with Logbook(path, first=0, steps=2, active=True) as log:
        log.write("train", 1, loss=float("nan"), losses={"audio/nce": float("inf")}, ids=["ä"])
    assert [json.loads(line) for line in path.read_text().splitlines()] == [
        {"event": "start", "step": 0},
        {"event": "train", "step": 1, "loss": "nan", "losses": {"audio/nce": "inf"}, "ids": ["ä"]},
    ]


def test_only_the_main_process_writes(tmp_path: Path) -> None:
    with Logbook(tmp_path / "log.jsonl", first=0, steps=2, active=False) as log:
        log.write("train", 1)
        log.advance(0.5)
    assert not (tmp_path / "log.jsonl").exists()


def test_a_full_disk_costs_a_line_and_not_the_run(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    class Full(io.BytesIO):
        def write(self, data: object) -> int:
            super().write(b"half of the li")
            raise OSError(28, "No space left on device")

    with Logbook(tmp_path / "log.jsonl", first=0, steps=2, active=True) as log, caplog.at_level(logging.WARNING):
        log._file = full = Full(b"")
        log.write("train", 1)
        assert full.getvalue() == b""
    assert "No space left on device" in caplog.text and '"step": 1' in caplog.text


def test_time_is_measured_between_calls(tmp_path: Path) -> None:
    with Logbook(tmp_path / "log.jsonl", first=0, steps=2, active=False) as log:
        assert 0 <= log.seconds() < 5 and 0 <= log.seconds() < 5
