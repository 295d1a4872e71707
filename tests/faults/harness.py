"""What the fault classes share: the run they disturb, children that can be killed, and the line each class reports."""

from __future__ import annotations

import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from polysense.storage import verify_folder
from polysense.testing.toy import ToyObjective, toy_mixture
from polysense.trainer import FileSystem, Hooks, LoopConfig, train
from polysense.trainer.checkpoint import MODEL, OPTIMIZER, CheckpointStore

STEPS, SAVE_EVERY = 40, 5
CHILD_TIMEOUT = 60.0


@dataclass
class FaultReport:
    """One line of the report.

    Attributes:
        name: class of fault.
        injected: faults that really took place.
        detected: those after which the run went on from an intact state, or refused with an error that names the file.
        lost: runs that could not be finished.
        silent: runs that ended otherwise than the undisturbed one, without an error.
        worst_seconds: longest time one fault took to be dealt with.
    """

    name: str
    injected: int = 0
    detected: int = 0
    lost: int = 0
    silent: int = 0
    worst_seconds: float = 0.0

    def line(self) -> str:
        return (
            f"{self.name} {self.injected} injected / {self.detected} detected / {self.lost} lost / "
            f"{self.silent} silent / {self.worst_seconds:.2f} worst seconds"
        )

    def to_dict(self) -> dict[str, object]:
        return asdict(self)

    def took(self, since: float) -> None:
        self.worst_seconds = max(self.worst_seconds, time.monotonic() - since)


class Interrupted(Exception):
    """Raised by a hook to leave a run in the middle."""


def run_training(folder: Path, *, files: FileSystem | None = None, stop_at: int | None = None, keep: int = 2,
                 strict: bool = False) -> None:  # fmt: skip
    """Train the toy in `folder`, with augmentation and dropout, from where it stands; leave at `stop_at` if given."""

    def leave(state: object) -> None:
        if getattr(state, "step", None) == stop_at:
            raise Interrupted

    config = LoopConfig(
        steps=STEPS,
        save_every=SAVE_EVERY,
        keep_checkpoints=keep,
        learning_rate=0.01,
        log_every=1,
        strict_resume=strict,
    )
    try:
        train(ToyObjective(), toy_mixture(), config, folder, hooks=Hooks(on_step_end=leave), files=files)
    except Interrupted:
        return


def final_state(folder: Path) -> tuple[str, str]:
    """SHA-256 of the final weights (buffers included) and of the optimiser's state."""
    last = CheckpointStore(folder).paths()[0]
    files = verify_folder(last)["files"]
    if last.name != f"step-{STEPS:08d}":
        raise AssertionError(f"the run ended at {last.name}")
    return files[MODEL]["sha256"], files[OPTIMIZER]["sha256"]


def fork(action: Callable[[], None], log: Path) -> int:
    """Run `action` in a forked child and return its process id; what it prints goes to `log`.

    The parent must be single-threaded: it imports torch, but computes nothing itself.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    if child := os.fork():
        return child
    code = 1
    try:
        descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(descriptor, 1)
        os.dup2(descriptor, 2)
        action()
        code = 0
    except SystemExit as stop:
        code = int(stop.code or 0)
    except BaseException:
        traceback.print_exc()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def wait(child: int, timeout: float = CHILD_TIMEOUT) -> int:
    """Exit code of a child (negative: the signal that killed it); one that hangs is killed and raises."""
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        finished, status = os.waitpid(child, os.WNOHANG)
        if finished:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.002)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    raise TimeoutError(f"a child did not end within {timeout:.0f} s")


def complete(folder: Path) -> int:
    """Let an undisturbed child finish the run in `folder`; its exit code."""
    return wait(fork(lambda: run_training(folder), folder.with_suffix(".out")))


@dataclass(frozen=True)
class Subject:
    """A run that faults disturb.

    Attributes:
        complete: lets an undisturbed child finish the run in a folder; its exit code.
        final: how the run in a folder has ended, to be compared.
    """

    complete: Callable[[Path], int]
    final: Callable[[Path], object]


TOY = Subject(complete, final_state)
