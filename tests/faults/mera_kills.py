"""Where MERA's stages and those of its rivals are killed."""

from __future__ import annotations

from typing import Any
from unittest.mock import patch

from polysense.continual import sample_fisher, stage_adapter
from polysense.continual.methods import ewc, fresh_lora
from polysense.metrics.judging.record import VerdictRecord
from polysense.models.mera import MeraForConditionalGeneration, MeraProcessor
from polysense.recipes import mera_stage
from polysense.recipes.answering import AnswerEvaluator
from tests.faults.kills import Pause
from tests.faults.mera_run import STEPS
from tests.faults.recipe_kills import Moment, after_each, after_steps, pause_after, pause_before


def _in_merge(pause: Pause) -> None:
    """Before the trained adapter is put aside, and between two weights that are merged."""
    pause_before(fresh_lora, "save_adapter", pause)
    pause_before(stage_adapter, "effective_weight", pause)


def _in_fisher(pause: Pause) -> None:
    """Before a batch of the Fisher information, and before it is written."""

    def estimate(model: Any, batches: Any, losses: Any, **options: Any) -> Any:
        def paused(batch: Any) -> Any:
            pause()
            return losses(batch)

        return sample_fisher(model, batches, paused, **options)

    patch.object(ewc, "sample_fisher", estimate).start()
    pause_before(ewc, "save_file", pause)


def _in_paths(pause: Pause) -> None:
    """While the first stage's LoRA becomes a path, and another one is added."""
    pause_after(MeraForConditionalGeneration, "add_adapters", pause)
    pause_before(MeraForConditionalGeneration, "add_path", pause)


_IN_FOLDER = after_each((MeraForConditionalGeneration, "save_pretrained"), (MeraProcessor, "save_pretrained"))
MOMENTS = (
    Moment("the connector phase", "MERA", STEPS, after_steps(mera_stage, "connector")),
    Moment("the joint phase", "MERA", STEPS, after_steps(mera_stage, "joint")),
    Moment("the merge", "MERA", 15, _in_merge),
    Moment("realigning", "MERA", STEPS, after_steps(mera_stage, "realign")),
    Moment("answering", "MERA", 6, lambda pause: pause_before(AnswerEvaluator, "answers", pause)),
    Moment("judging", "MERA", 20, lambda pause: pause_after(VerdictRecord, "put", pause)),
    Moment("writing the stage", "MERA", 2, _IN_FOLDER),
    Moment("estimating", "EWC", 2, _in_fisher),
    Moment("the joint phase", "EWC", STEPS, after_steps(mera_stage, "joint")),
    Moment("adding paths", "PathWeave", 3, _in_paths),
    Moment("the joint phase", "PathWeave", STEPS, after_steps(mera_stage, "joint")),
)
