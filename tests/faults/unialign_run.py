"""The tiny run of UniAlign's recipe that is killed: depth, then sound, augmented as the shipped config has it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from polysense.recipes import unialign
from polysense.testing import tiny_anchor
from polysense.world import WorldConfig, build_world
from tests.faults.recipe_run import RecipeRun, prepared, stage_content
from tests.recipes.fixtures import Parts

METHOD, STEPS = "UniAlign", 4
SENSES = ("depth", "audio")


@dataclass
class UniAlignRecipeRun(RecipeRun):
    """The anchor and two stages, each with checkpoints of its training.

    Attributes:
        parts: the world and the anchor.
    """

    parts: Parts

    def train(self, run: Path) -> None:
        stages = ", ".join(f"{{name: {sense}, trains: [{sense}]}}" for sense in SENSES)
        options = self.parts.overrides(f"stages=[{stages}]", "loop.save_every=1", steps=STEPS)
        unialign.run(str(self.config), run, options)

    def final(self, run: Path) -> object:
        """SHA-256 of all that the stages hold, and their figures."""
        return [stage_content(stage) for stage in sorted((run / "stages").iterdir())]


def unialign_run(folder: Path) -> UniAlignRecipeRun:
    """The run, on a world and an anchor that are made first."""
    parts = Parts(folder / "parts" / "world", folder / "parts" / "anchor")

    def write() -> None:
        build_world(parts.world, WorldConfig(size="tiny"), workers=1, progress=False)
        tiny_anchor(parts.anchor)

    prepared(folder / "parts", write)
    return UniAlignRecipeRun(Path("world-incremental"), METHOD, folder / "reference", parts)
