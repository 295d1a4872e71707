"""SIGKILL at random instants and inside saves, and requests to stop (SIGTERM)."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from polysense.trainer import FileSystem
from tests.faults.harness import TOY, FaultReport, Subject, fork, run_training, wait

KILLS_PER_RUN = 3


class Pause:
    """Stops its process for good when it is passed for the n-th time, after telling so with a marker file."""

    def __init__(self, marker: Path, pause_at: int) -> None:
        marker.unlink(missing_ok=True)
        self.marker, self.left = marker, pause_at

    def __call__(self, half: Callable[[], None] | None = None) -> None:
        self.left -= 1
        if self.left == 0:
            if half is not None:
                half()
            self.marker.touch()
            time.sleep(600)

    def kill(self, child: int) -> bool:
        """Kill `child` where it has stopped; `False` if it ended without getting there."""
        deadline = time.monotonic() + 30
        while not self.marker.exists() and time.monotonic() < deadline:
            if os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT):
                wait(child)
                return False
            time.sleep(0.002)
        return kill(child)


class PausingFileSystem(FileSystem):
    """Pauses before (or half-way through) an operation."""

    def __init__(self, pause: Pause) -> None:
        self.pause = pause

    def make_folder(self, path: Path) -> None:
        self.pause()
        super().make_folder(path)

    def write(self, path: Path, data: bytes) -> None:
        self.pause(lambda: super(PausingFileSystem, self).write(path, data[: len(data) // 2]))
        super().write(path, data)

    def sync(self, path: Path) -> None:
        self.pause()
        super().sync(path)

    def replace(self, source: Path, target: Path) -> None:
        self.pause()
        super().replace(source, target)

    def remove_folder(self, path: Path) -> None:
        self.pause()
        super().remove_folder(path)


def kill(child: int) -> bool:
    """SIGKILL; whether it was this that ended the child."""
    os.kill(child, signal.SIGKILL)
    return wait(child) == -signal.SIGKILL


def random_kills(folder: Path, count: int, seed: int) -> FaultReport:
    """`count` SIGKILLs at instants drawn uniformly over the run, up to three in one run."""
    report, rng = FaultReport("SIGKILL at a random instant"), np.random.default_rng(seed)
    reference, seconds = _reference(folder)

    def disturb(run: Path) -> bool:
        child = fork(lambda: run_training(run), run.with_suffix(".out"))
        time.sleep(float(rng.uniform(0.0, seconds)))
        return kill(child)

    disturb_until(report, folder, count, disturb, TOY, reference)
    return report


def kills_inside_saves(folder: Path, count: int, seed: int) -> FaultReport:
    """`count` SIGKILLs while a checkpoint is being written, synced, renamed or removed (operation drawn)."""
    report, rng = FaultReport("SIGKILL inside a save"), np.random.default_rng(seed)
    reference, _ = _reference(folder)

    def disturb(run: Path) -> bool:
        pause = Pause(run.with_suffix(".paused"), int(rng.integers(1, 40)))
        return pause.kill(fork(lambda: run_training(run, files=PausingFileSystem(pause)), run.with_suffix(".out")))

    disturb_until(report, folder, count, disturb, TOY, reference)
    return report


def stop_requests(folder: Path, count: int, seed: int) -> FaultReport:
    """`count` SIGTERMs: the run saves, exits with 143, and goes on from that very step."""
    report, rng = FaultReport("SIGTERM"), np.random.default_rng(seed)
    reference, seconds = _reference(folder)

    def disturb(run: Path) -> bool:
        begun = (run / "log.jsonl").stat().st_size if (run / "log.jsonl").exists() else 0
        child = fork(lambda: run_training(run), run.with_suffix(".out"))
        while not (run / "log.jsonl").exists() or (run / "log.jsonl").stat().st_size == begun:
            time.sleep(0.001)
        time.sleep(float(rng.uniform(0.0, seconds / 2)))
        os.kill(child, signal.SIGTERM)
        return wait(child) == 143

    disturb_until(report, folder, count, disturb, TOY, reference)
    return report


def _reference(folder: Path) -> tuple[object, float]:
    if not (folder / "reference").exists():
        TOY.complete(folder / "warm-up")
    return undisturbed(folder / "reference", TOY)


def undisturbed(run: Path, subject: Subject) -> tuple[object, float]:
    """How the run ends that nobody disturbs, and its duration."""
    begun = time.monotonic()
    run.mkdir(parents=True, exist_ok=True)
    if code := subject.complete(run):
        raise AssertionError(f"the undisturbed run ended with code {code}: {run.with_suffix('.out').read_text()}")
    return subject.final(run), max(0.05, time.monotonic() - begun)


def disturb_until(
    report: FaultReport,
    folder: Path,
    count: int,
    disturb: Callable[[Path], bool],
    subject: Subject,
    reference: object,
) -> None:
    """Disturb runs until `count` faults took place; finish each run, and compare how it ended."""
    number = 0
    while report.injected < count:
        number += 1
        run = folder / f"{report.name.replace(' ', '-')}-{number}"
        run.mkdir(parents=True)
        faults = 0
        while faults < KILLS_PER_RUN and report.injected < count and disturb(run):
            faults += 1
            report.injected += 1
        begun = time.monotonic()
        ended = subject.complete(run) == 0
        report.took(begun)
        equal = ended and subject.final(run) == reference
        report.detected += faults if equal else 0
        report.lost += not ended
        report.silent += ended and not equal
