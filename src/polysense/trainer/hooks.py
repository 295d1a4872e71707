"""What the loop shows to its caller: hooks on the way, and the result at the end."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from polysense.modality import JsonValue
from polysense.trainer.config import LoopConfig
from polysense.trainer.objective import Objective


@dataclass(frozen=True, kw_only=True)
class LoopState:
    """What hooks get to see.

    Attributes:
        step: optimiser steps done.
        seconds: time that they took, over all starts.
        config: settings of the run.
        folder: the run folder.
        objective: what is trained.
        accelerator: device and processes.
        metrics: what `on_evaluate` returned last.
    """

    step: int
    seconds: float
    config: LoopConfig
    folder: Path
    objective: Objective
    accelerator: Any
    metrics: Mapping[str, JsonValue] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Hooks:
    """Called on every rank; what one does on the main process only, it must decide itself.

    Attributes:
        on_step_end: after each optimiser step.
        on_evaluate: every `eval_every` steps and after the last; its result is logged. A run killed between an
            evaluation and the next checkpoint evaluates again.
        on_stage_end: when all steps are done and saved, also when a finished run is started again: the place to
            write the stage's folder, render its card and push it.
    """

    on_step_end: Callable[[LoopState], None] | None = None
    on_evaluate: Callable[[LoopState], Mapping[str, JsonValue]] | None = None
    on_stage_end: Callable[[LoopState], None] | None = None


@dataclass(frozen=True, kw_only=True)
class TrainingResult:
    """What a finished run comes to.

    Attributes:
        step: optimiser steps done, over all starts.
        seconds: time that these steps took, over all starts.
        resumed_from: step this start began at.
        skipped_steps: steps left out because of a non-finite loss or gradient, over all starts.
        skipped_samples: unusable samples that were replaced, per source, in this start.
        checkpoint: folder of the last checkpoint.
        metrics: what `on_evaluate` returned last.
    """

    step: int
    seconds: float
    resumed_from: int
    skipped_steps: int
    skipped_samples: Mapping[str, int]
    checkpoint: Path
    metrics: Mapping[str, JsonValue]
