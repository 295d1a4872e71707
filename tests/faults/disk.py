"""A disk that is full or fails at any operation of a save."""

from __future__ import annotations

import errno
import os
import time
from itertools import count
from pathlib import Path

from polysense.errors import CheckpointError
from polysense.trainer import FileSystem
from polysense.trainer.checkpoint import CheckpointStore
from tests.faults.harness import SAVE_EVERY, FaultReport, complete, final_state, fork, run_training, wait

REFUSED, NOT_REACHED = 3, 4  # exit codes of children


class FailingFileSystem(FileSystem):
    """Its n-th operation fails with `code`; a write leaves half of the data behind."""

    def __init__(self, fail_at: int, code: int) -> None:
        self.left, self.code = fail_at, code

    def _count(self) -> bool:
        self.left -= 1
        return self.left == 0

    def _fail(self, path: Path) -> None:
        raise OSError(self.code, os.strerror(self.code), str(path))

    def make_folder(self, path: Path) -> None:
        if self._count():
            self._fail(path)
        super().make_folder(path)

    def write(self, path: Path, data: bytes) -> None:
        if self._count():
            super().write(path, data[: len(data) // 2])
            self._fail(path)
        super().write(path, data)

    def sync(self, path: Path) -> None:
        if self._count():
            self._fail(path)
        super().sync(path)

    def replace(self, source: Path, target: Path) -> None:
        if self._count():
            self._fail(source)
        super().replace(source, target)

    def remove_folder(self, path: Path) -> None:
        if self._count():
            self._fail(path)
        super().remove_folder(path)


def failing_writes(folder: Path, code: int, first: int, stride: int) -> FaultReport:
    """Fail operation `first`, `first + stride`, ... of a run, one in each run, until a run has no such operation.

    The run must stop with an error that says how many bytes are needed and free (or go on, where only the removal of
    an old checkpoint failed), keep the checkpoint before, leave no half-written folder, and end, started again, as
    the undisturbed run.
    """
    report = FaultReport(f"disk {errno.errorcode[code]}")
    reference = folder / "reference"
    if complete(reference):
        raise AssertionError(reference.with_suffix(".out").read_text())
    for operation in count(first, stride):
        run = folder / f"{errno.errorcode[code]}-{operation}"
        run.mkdir()
        begun = time.monotonic()

        def attempt(run: Path = run, operation: int = operation) -> None:
            files = FailingFileSystem(operation, code)
            try:
                run_training(run, files=files)
            except CheckpointError as error:
                says_it = "bytes are needed" in str(error) and os.strerror(code) in str(error)
                raise SystemExit(REFUSED if says_it else 1) from error
            if files.left > 0:
                raise SystemExit(NOT_REACHED)

        ended = wait(fork(attempt, run.with_suffix(".out")))
        if ended == NOT_REACHED:
            return report
        report.injected += 1
        intact = _newest_step(run)
        left_over = [path.name for path in (run / "checkpoints").glob(".*")] if (run / "checkpoints").exists() else []
        report.detected += ended in (0, REFUSED) and intact % SAVE_EVERY == 0 and not (ended == REFUSED and left_over)
        finished = complete(run) == 0
        report.lost += not finished
        report.silent += finished and final_state(run) != final_state(reference)
        report.took(begun)
    raise AssertionError("unreachable: the operations of a run are finite")


def _newest_step(run: Path) -> int:
    checkpoint = CheckpointStore(run).newest(strict=True)
    return 0 if checkpoint is None else checkpoint.step
