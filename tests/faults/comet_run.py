"""The tiny run of COMET's recipe that is killed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from safetensors import safe_open

from polysense.recipes import comet
from polysense.storage import verify_folder
from polysense.testing import tiny_comet_recipe
from polysense.trainer.checkpoint import MODEL, OPTIMIZER, CheckpointStore
from tests.faults.recipe_run import RecipeRun, prepared, stage_content

METHOD, STEPS = "COMET", 4
KEPT = ("model.codebook.embedding", "model.codebook.ema_count", "model.codebook.unused_steps",
        "model.approximations.text", "inner.text.mean", "inner.text.square", "replay.codes.embedding")  # fmt: skip
"""What a checkpoint of the second stage must hold for a run to go on with the same bits: the codebook with its
averages, vCLUB's approximations and their optimisers, and V1."""


class CometRecipeRun(RecipeRun):
    """Two stages with replay, growth, vCLUB, restarts and EWC."""

    def train(self, run: Path) -> None:
        comet.run(str(self.config), run)

    def final(self, run: Path) -> object:
        """SHA-256 of all that the stages hold (model and Fisher information), their figures, and SHA-256 of the last
        checkpoint, with the state that training alone has."""
        stages = sorted((run / "stages").iterdir())
        return [stage_content(stage) for stage in stages], _checkpoint(run / "training" / stages[-1].name)


def comet_run(folder: Path) -> CometRecipeRun:
    """The run, of a recipe that is written first."""

    def write() -> None:
        tiny_comet_recipe(folder / "parts", steps=STEPS)

    prepared(folder / "parts", write)
    return CometRecipeRun(folder / "parts" / "tiny-comet.yaml", METHOD, folder / "reference")


def _checkpoint(training: Path) -> dict[str, Any]:
    last = CheckpointStore(training).paths()[0]
    with safe_open(last / MODEL, framework="np") as file:
        names = list(file.keys())
    if missing := [kept for kept in KEPT if not any(name.startswith(kept) for name in names)]:
        raise AssertionError(f"{last} lacks {missing}")
    files = verify_folder(last)["files"]
    return {"step": last.name, **{name: files[name]["sha256"] for name in (MODEL, OPTIMIZER)}}
