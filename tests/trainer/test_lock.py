from __future__ import annotations

import json
import logging
import os
import socket
from pathlib import Path

import pytest

from polysense.errors import ConfigError, FolderInUseError
from polysense.trainer import FolderLock


def test_a_second_writer_is_refused_at_once_and_told_who_the_first_is(tmp_path: Path) -> None:
    holder = f"process {os.getpid()} on {socket.gethostname()}"
    with FolderLock(tmp_path / "run"), pytest.raises(FolderInUseError, match=holder):
        FolderLock(tmp_path / "run").__enter__()
    with FolderLock(tmp_path / "run"):
        pass


def test_the_lock_of_a_dead_process_of_this_host_is_taken_over(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    child = os.fork()
    if child == 0:
        FolderLock(tmp_path).__enter__()
        os._exit(0)
    os.waitpid(child, 0)
    assert json.loads((tmp_path / ".lock").read_text())["pid"] == child
    with caplog.at_level(logging.WARNING), FolderLock(tmp_path):
        assert f"process {child}" in caplog.text


def test_the_lock_of_another_host_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / ".lock").write_text(json.dumps({"pid": 1, "host": "elsewhere"}))
    with pytest.raises(FolderInUseError, match=r"process 1 on elsewhere .*delete .*\.lock"):
        FolderLock(tmp_path).__enter__()


def test_a_torn_lock_file_does_not_stop_anyone(tmp_path: Path) -> None:
    (tmp_path / ".lock").write_text('{"pid"')
    with FolderLock(tmp_path):
        pass


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="cannot be written to"):
        FolderLock(tmp_path / "file/run").__enter__()


def test_a_full_disk_is_named_and_leaves_the_folder_to_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched, pytest.raises(ConfigError, match="No space left on device"):
        patched.setattr(os, "pwrite", full)
        FolderLock(tmp_path).__enter__()
    with FolderLock(tmp_path):
        pass
