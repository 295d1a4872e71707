"""Where UniAlign's stages are killed."""

from __future__ import annotations

from polysense.models.unialign import UniAlignModel, UniAlignProcessor
from polysense.recipes import unialign
from polysense.recipes.evaluation import Evaluator
from tests.faults.recipe_kills import Moment, after_each, after_steps, inside_saves, pause_before
from tests.faults.unialign_run import METHOD, STEPS

_IN_FOLDER = after_each((UniAlignModel, "save_pretrained"), (UniAlignProcessor, "save_pretrained"))
MOMENTS = (
    Moment("training", METHOD, STEPS, after_steps(unialign)),
    Moment("a save", METHOD, 20, inside_saves(unialign)),
    Moment("evaluating", METHOD, 1, lambda pause: pause_before(Evaluator, "run", pause)),
    Moment("writing the stage", METHOD, 2, _IN_FOLDER),
)
