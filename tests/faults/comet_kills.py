"""Where COMET's stages are killed."""

from __future__ import annotations

from typing import Any
from unittest.mock import patch

from polysense.continual import batch_fisher
from polysense.models.comet import CometModel
from polysense.nn.codebook import Codebook
from polysense.recipes import comet
from polysense.trainer import comet as comet_training
from tests.faults.comet_run import METHOD, STEPS
from tests.faults.kills import Pause
from tests.faults.recipe_kills import Moment, after_each, after_steps, inside_saves, pause_after, pause_before


def _between_stages(pause: Pause) -> None:
    """Before the codebook of a stage starts or grows, and after the stage's folder is there."""
    pause_before(comet, "begin_stage", pause)
    pause_after(comet, "save_stage", pause)


def _in_growth(pause: Pause) -> None:
    """With V1 kept and the codebook grown, before the first step."""
    pause_after(comet, "begin_stage", pause)


def _in_fisher(pause: Pause) -> None:
    """Before a batch of the Fisher information, and before it is written."""

    def estimate(model: Any, batches: Any, loss: Any, **options: Any) -> Any:
        def paused(batch: Any) -> Any:
            pause()
            return loss(batch)

        return batch_fisher(model, batches, paused, **options)

    patch.object(comet_training, "batch_fisher", estimate).start()
    pause_before(comet, "_save_ewc", pause)


def _in_restart(pause: Pause) -> None:
    """With codes restarted, before the step is over."""
    pause_after(Codebook, "_restart", pause, when=lambda restarted: restarted > 0)


_IN_FOLDER = after_each((CometModel, "save_pretrained"), (comet, "save_extractors"))
MOMENTS = (
    Moment("the codes phase", METHOD, STEPS, after_steps(comet)),
    Moment("a save", METHOD, 20, inside_saves(comet)),
    Moment("a restart of codes", METHOD, 1, _in_restart),
    Moment("growing", METHOD, 1, _in_growth),
    Moment("consolidating", METHOD, 3, _in_fisher),
    Moment("writing the stage", METHOD, 2, _IN_FOLDER),
    Moment("going from stage to stage", METHOD, 2, _between_stages),
)
