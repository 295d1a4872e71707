from __future__ import annotations

import json
import logging
import resource
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
    path, (soft, hard) = tmp_path / "log.jsonl", resource.getrlimit(resource.RLIMIT_FSIZE)
    with Logbook(path, first=0, steps=3, active=True) as log, caplog.at_level(logging.WARNING):
        log.write("train", 1)
        whole = path.read_bytes()
        try:
            resource.setrlimit(resource.RLIMIT_FSIZE, (len(whole) + 7, hard))
            log.write("train", 2)  # of which 7 bytes go in
            resource.setrlimit(resource.RLIMIT_FSIZE, (len(whole), hard))
            log.write("train", 3)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert path.read_bytes() == whole
        log.write("end", 3)
    assert [json.loads(line)["step"] for line in path.read_text().splitlines()] == [1, 3]
    assert "No space left on device" in caplog.text and '"step": 2' in caplog.text and '"step": 3' in caplog.text


def test_time_is_measured_between_calls(tmp_path: Path) -> None:
    with Logbook(tmp_path / "log.jsonl", first=0, steps=2, active=False) as log:
        assert 0 <= log.seconds() < 5 and 0 <= log.seconds() < 5
