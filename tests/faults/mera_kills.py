"""SIGKILL in every phase of MERA's stages and of its rivals', and at random instants of whole runs."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np

from polysense.continual import sample_fisher, stage_adapter
from polysense.continual.methods import ewc, fresh_lora
from polysense.metrics.judging.record import VerdictRecord
from polysense.models.mera import MeraForConditionalGeneration, MeraProcessor
from polysense.recipes import mera_stage
from polysense.recipes.answering import AnswerEvaluator
from polysense.trainer import Hooks, train
from tests.faults.harness import FaultReport
from tests.faults.kills import Pause, disturb_until, kill
from tests.faults.mera_run import STEPS, MeraRun


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
    install: Callable[[Pause], None]


def _before(owner: Any, name: str, pause: Pause) -> None:
    original = getattr(owner, name)

    @wraps(original)
    def paused(*arguments: Any, **options: Any) -> Any:
        pause()
        return original(*arguments, **options)

    patch.object(owner, name, paused).start()


def _after(owner: Any, name: str, pause: Pause) -> None:
    original = getattr(owner, name)

    @wraps(original)
    def paused(*arguments: Any, **options: Any) -> Any:
        result = original(*arguments, **options)
        pause()
        return result

    patch.object(owner, name, paused).start()


def _in_phase(phase: str) -> Callable[[Pause], None]:
    """After an optimiser step of a phase, before its checkpoint."""

    def install(pause: Pause) -> None:
        def training(objective: Any, feed: Any, config: Any, folder: Path) -> Any:
            hooks = Hooks(on_step_end=lambda state: pause()) if folder.name == phase else None
            return train(objective, feed, config, folder, hooks=hooks)

        patch.object(mera_stage, "train", training).start()

    return install


def _in_merge(pause: Pause) -> None:
    """Before the trained adapter is put aside, and between two weights that are merged."""
    _before(fresh_lora, "save_adapter", pause)
    _before(stage_adapter, "effective_weight", pause)


def _in_folder(pause: Pause) -> None:
    """While the stage's folder is written."""
    _after(MeraForConditionalGeneration, "save_pretrained", pause)
    _after(MeraProcessor, "save_pretrained", pause)


def _in_fisher(pause: Pause) -> None:
    """Before a batch of the Fisher information, and before it is written."""

    def estimate(model: Any, batches: Any, losses: Any, **options: Any) -> Any:
        def paused(batch: Any) -> Any:
            pause()
            return losses(batch)

        return sample_fisher(model, batches, paused, **options)

    patch.object(ewc, "sample_fisher", estimate).start()
    _before(ewc, "save_file", pause)


def _in_paths(pause: Pause) -> None:
    """While the first stage's LoRA becomes a path, and another one is added."""
    _after(MeraForConditionalGeneration, "add_adapters", pause)
    _before(MeraForConditionalGeneration, "add_path", pause)


MOMENTS = (
    Moment("the connector phase", "MERA", STEPS, _in_phase("connector")),
    Moment("the joint phase", "MERA", STEPS, _in_phase("joint")),
    Moment("the merge", "MERA", 15, _in_merge),
    Moment("realigning", "MERA", STEPS, _in_phase("realign")),
    Moment("answering", "MERA", 6, lambda pause: _before(AnswerEvaluator, "answers", pause)),
    Moment("judging", "MERA", 20, lambda pause: _after(VerdictRecord, "put", pause)),
    Moment("writing the stage", "MERA", 2, _in_folder),
    Moment("estimating", "EWC", 2, _in_fisher),
    Moment("the joint phase", "EWC", STEPS, _in_phase("joint")),
    Moment("adding paths", "PathWeave", 3, _in_paths),
    Moment("the joint phase", "PathWeave", STEPS, _in_phase("joint")),
)


def kills_in(moment: Moment, work: MeraRun, folder: Path, count: int, seed: int) -> FaultReport:
    """`count` SIGKILLs in a phase, up to three in one run.

    A run has to end with the bits of the undisturbed one in every stage and with its metrics; of the judge, nothing
    that was on record is asked again, and no more is repeated than was in flight. Most runs begin with the first
    stage done, since there is more to be disturbed in the second.
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


def random_kills_of(work: MeraRun, folder: Path, count: int, seed: int) -> FaultReport:
    """`count` SIGKILLs at instants drawn uniformly over a whole run; see `kills_in`."""
    report = FaultReport(f"SIGKILL at a random instant ({work.method})")
    rng, (reference, seconds) = np.random.default_rng(seed), work.reference

    def disturb(run: Path) -> bool:
        child = work.start(run)
        time.sleep(float(rng.uniform(0.0, seconds)))
        return work.noted(run, kill(child))

    disturb_until(report, folder, count, disturb, work.subject, reference)
    return report
