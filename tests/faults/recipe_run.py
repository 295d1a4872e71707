"""A tiny run of a recipe that is killed: in a child of its own, and compared with one that nobody disturbs."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from polysense.storage import verify_folder
from tests.faults.harness import Subject, fork, wait
from tests.faults.kills import undisturbed

RUN_TIMEOUT = 300.0
_RECORDS = ("README.md", "stage.json", "metrics.json")  # with seconds, counters and the command line


@dataclass
class RecipeRun(ABC):
    """One method's run.

    Attributes:
        config: of the recipe.
        method: what reports call it.
        folder: of the run that nobody disturbs.
    """

    config: Path
    method: str
    folder: Path

    @property
    def subject(self) -> Subject:
        return Subject(lambda run: wait(self.start(run), RUN_TIMEOUT), self.final)

    @cached_property
    def reference(self) -> tuple[object, float]:
        """How it ends undisturbed, and its duration."""
        return undisturbed(self.folder, self.subject)

    def start(self, run: Path, prepare: Callable[[], Any] | None = None) -> int:
        """Start the run in a child, or go on with it; `prepare` is called in the child before."""

        def work() -> None:
            if prepare is not None:
                prepare()
            self.train(run)

        return fork(work, run.with_suffix(".out"))

    def noted(self, run: Path, killed: bool) -> bool:
        """Told of every attempt to kill a run, with whether it was; which is returned."""
        return killed

    @abstractmethod
    def train(self, run: Path) -> None:
        """The recipe, in the child."""

    @abstractmethod
    def final(self, run: Path) -> object:
        """How the run in a folder has ended, to be compared."""


def stage_content(folder: Path) -> dict[str, Any]:
    """SHA-256 of all that a stage holds, and its figures."""
    listing = verify_folder(folder)["files"]
    files = {name: entry["sha256"] for name, entry in listing.items() if name not in _RECORDS}
    return {"name": folder.name, "files": files, "results": metrics_of(folder)["results"]}


def metrics_of(stage: Path) -> dict[str, Any]:
    """What a stage was scored with."""
    found: dict[str, Any] = json.loads((stage / "metrics.json").read_text())
    return found


def prepared(folder: Path, write: Callable[[], None]) -> None:
    """Let a child write what the runs need: a process that forks must not have computed with torch."""
    if wait(fork(write, folder.with_suffix(".out")), RUN_TIMEOUT):
        raise AssertionError(folder.with_suffix(".out").read_text())
