"""A process beside the run: what it makes is waited for, and it neither outlives the run nor fails in silence."""

from __future__ import annotations

import logging
import os
import sys
import time
from functools import partial
from pathlib import Path

import pytest

from polysense.recipes.beside import beside
from polysense.storage import write_whole


def make(path: Path) -> None:
    sys.stderr.write("making it\n")
    time.sleep(0.3)
    write_whole(path, str(os.getpid()))


def make_for_ever(path: Path) -> None:
    write_whole(path, str(os.getpid()))
    time.sleep(600)


def fail() -> None:
    raise KeyError("no such class")


def test_a_file_is_waited_for(tmp_path: Path) -> None:
    made, log = tmp_path / "made" / "a.json", tmp_path / "logs" / "made.log"
    with beside(partial(make, made), log) as wait:
        assert not made.exists()
        wait(made)
        assert int(made.read_text()) != os.getpid()
    assert "making it" in log.read_text()


def test_all_of_the_work_is_waited_for(tmp_path: Path) -> None:
    with beside(partial(make, tmp_path / "a.json"), tmp_path / "log") as wait:
        wait()
        assert (tmp_path / "a.json").exists()


def test_work_that_failed_is_not_waited_for_and_says_why(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING), beside(fail, tmp_path / "log") as wait:
        wait(tmp_path / "never")
    assert str(tmp_path / "log") in caplog.text and "no such class" in (tmp_path / "log").read_text()


def test_the_process_ends_with_the_block(tmp_path: Path) -> None:
    with beside(partial(make_for_ever, tmp_path / "pid"), tmp_path / "log") as wait:
        wait(tmp_path / "pid")
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)
