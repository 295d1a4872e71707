"""SIGKILL at named moments of a recipe's stages, and at random instants of whole runs."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import wraps
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np

from polysense.trainer import Hooks, train
from tests.faults.harness import FaultReport
from tests.faults.kills import Pause, PausingFileSystem, disturb_until, kill
from tests.faults.recipe_run import RecipeRun

Install = Callable[[Pause], None]


@dataclass(frozen=True)
class Moment:
    """Where a run is killed.

    Attributes:
        name: of the phase.
        method: of the run.
        passes: how often the second stage passes it; which pass it is, is drawn.
        install: makes the process pause there; called in the child.
    """

    name: str
    method: str
    passes: int
    install: Install


def pause_before(owner: Any, name: str, pause: Pause) -> None:
    """Pause before a function of a module, or a method of a class, is run."""
    original = getattr(owner, name)

    @wraps(original)
    def paused(*arguments: Any, **options: Any) -> Any:
        pause()
        return original(*arguments, **options)

    patch.object(owner, name, paused).start()


def pause_after(owner: Any, name: str, pause: Pause, when: Callable[[Any], bool] = lambda result: True) -> None:
    """Pause after a function of a module, or a method of a class, was run, `when` its result is such."""
    original = getattr(owner, name)

    @wraps(original)
    def paused(*arguments: Any, **options: Any) -> Any:
        result = original(*arguments, **options)
        if when(result):
            pause()
        return result

    patch.object(owner, name, paused).start()


def after_each(*places: tuple[Any, str]) -> Install:
    """After each of some functions of modules or methods of classes, such as those that write a stage's folder."""

    def install(pause: Pause) -> None:
        for owner, name in places:
            pause_after(owner, name, pause)

    return install


def after_steps(recipe: Any, phase: str = "") -> Install:
    """After an optimiser step of a phase (of any training without a name), before its checkpoint.

    Args:
        recipe: the module whose `train` is meant.
        phase: name of the training's folder.
    """

    def install(pause: Pause) -> None:
        def training(objective: Any, feed: Any, config: Any, folder: Path, hooks: Hooks | None = None) -> Any:
            if phase in ("", folder.name):
                hooks = replace(hooks or Hooks(), on_step_end=lambda state: pause())
            return train(objective, feed, config, folder, hooks=hooks)

        patch.object(recipe, "train", training).start()

    return install


def inside_saves(recipe: Any) -> Install:
    """Before, or half-way through, an operation on the disk of a training's checkpoints."""

    def install(pause: Pause) -> None:
        def training(*arguments: Any, **options: Any) -> Any:
            return train(*arguments, files=PausingFileSystem(pause), **options)

        patch.object(recipe, "train", training).start()

    return install


def kills_in(moment: Moment, work: RecipeRun, folder: Path, count: int, seed: int) -> FaultReport:
    """`count` SIGKILLs in a phase, up to three in one run, which has to end as the undisturbed one.

    Most runs begin with the first stage done, since there is more to be disturbed in the second.
    """
    report = FaultReport(f"SIGKILL in {moment.name} ({work.method})")
    rng, (reference, _) = np.random.default_rng(seed), work.reference

    def disturb(run: Path) -> bool:
        if not (run / "stages").exists() and rng.random() < 0.7:
            first = next((work.folder / "stages").glob("stage-1-*"))
            shutil.copytree(first, run / "stages" / first.name)
        pause = Pause(run.with_suffix(".paused"), int(rng.integers(1, moment.passes + 1)))
        return work.noted(run, pause.kill(work.start(run, lambda: moment.install(pause))))

    disturb_until(report, folder, count, disturb, work.subject, reference)
    return report


def random_kills_of(work: RecipeRun, folder: Path, count: int, seed: int) -> FaultReport:
    """`count` SIGKILLs at instants drawn uniformly over a whole run; see `kills_in`."""
    report = FaultReport(f"SIGKILL at a random instant ({work.method})")
    rng, (reference, seconds) = np.random.default_rng(seed), work.reference

    def disturb(run: Path) -> bool:
        child = work.start(run)
        time.sleep(float(rng.uniform(0.0, seconds)))
        return work.noted(run, kill(child))

    disturb_until(report, folder, count, disturb, work.subject, reference)
    return report
