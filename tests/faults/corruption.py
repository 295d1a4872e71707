"""The newest checkpoint damaged in every way a disk, a copy or a person can damage it."""

from __future__ import annotations

import pickle
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from polysense.errors import CheckpointError
from polysense.storage import MANIFEST
from polysense.trainer.checkpoint import MODEL, OPTIMIZER, STATE, CheckpointStore
from tests.faults.harness import FaultReport, complete, final_state, fork, run_training, wait

FILES = (MODEL, OPTIMIZER, STATE, MANIFEST)
Damage = Callable[[Path, Path, np.random.Generator], str]


def _truncate(newest: Path, older: Path, rng: np.random.Generator) -> str:
    path = newest / str(rng.choice(FILES))
    data = path.read_bytes()
    path.write_bytes(data[: rng.choice([0, 1, 8, 9, len(data) // 2, len(data) - 1])])
    return path.name


def _flip(newest: Path, older: Path, rng: np.random.Generator) -> str:
    path = newest / str(rng.choice(FILES))
    data = bytearray(path.read_bytes())
    data[rng.integers(len(data))] ^= 1 << int(rng.integers(8))
    path.write_bytes(data)
    return path.name


def _zero(newest: Path, older: Path, rng: np.random.Generator) -> str:
    path = newest / str(rng.choice(FILES))
    data = bytearray(path.read_bytes())
    start = int(rng.integers(len(data)))
    data[start : start + 512] = bytes(len(data[start : start + 512]))
    if bytes(data) == path.read_bytes():  # the place held zeros
        data[start] = 1
    path.write_bytes(data)
    return path.name


def _remove(newest: Path, older: Path, rng: np.random.Generator) -> str:
    name = str(rng.choice(FILES))
    (newest / name).unlink()
    return name


def _swap(newest: Path, older: Path, rng: np.random.Generator) -> str:
    name = str(rng.choice(FILES))
    shutil.copy(older / name, newest / name)
    # A manifest of another step is itself intact: what it lists no longer fits, beginning with the model.
    return MODEL if name == MANIFEST else name


def _exchange(newest: Path, older: Path, rng: np.random.Generator) -> str:
    shutil.rmtree(newest)
    shutil.copytree(older, newest)
    return newest.name


def _pickle(newest: Path, older: Path, rng: np.random.Generator) -> str:
    name = str(rng.choice((MODEL, OPTIMIZER)))
    (newest / name).write_bytes(pickle.dumps({"weight": [1.0]}))
    return name


DAMAGES: dict[str, Damage] = {
    "file truncated": _truncate,
    "bit flipped": _flip,
    "block zeroed": _zero,
    "state file missing": _remove,
    "file of another step": _swap,
    "folder of another step": _exchange,
    "pickle offered": _pickle,
}


def damage_newest(folder: Path, name: str, count: int, seed: int) -> FaultReport:
    """Damage the newest of three checkpoints `count` times: it must be named, and the one before used or all refused.

    A damage is detected when `newest()` falls back by exactly one checkpoint and the strict form refuses with an
    error that names the file. One damage per class is followed to the end of the run, compared with the reference.
    """
    report, rng = FaultReport(name), np.random.default_rng(seed)
    reference, intact = folder / "reference", folder / "intact"
    if not intact.exists():
        _train(reference, None)
        _train(intact, 17)
    for number in range(count):
        run = folder / f"{name.replace(' ', '-')}-{number}"
        shutil.copytree(intact, run)
        newest, older, *_ = CheckpointStore(run).paths()
        begun = time.monotonic()
        report.injected += 1
        damaged = DAMAGES[name](newest, older, rng)
        if _falls_back(run, damaged):
            report.detected += 1
        else:
            report.silent += 1
        if number == 0:
            ended = complete(run) == 0
            report.lost += not ended
            report.silent += ended and final_state(run) != final_state(reference)
        report.took(begun)
        shutil.rmtree(run)
    return report


def _train(run: Path, stop_at: int | None) -> None:
    if wait(fork(lambda: run_training(run, stop_at=stop_at, keep=3), run.with_suffix(".out"))):
        raise AssertionError(run.with_suffix(".out").read_text())


def _falls_back(run: Path, damaged: str) -> bool:
    store = CheckpointStore(run)
    try:
        store.newest(strict=True)
    except CheckpointError as error:
        named = damaged in str(error)
    else:
        return False
    checkpoint = store.newest()
    return named and checkpoint is not None and checkpoint.step == 10
