"""What benchmarks of MERA's recipe begin with: a small world of real files, and parts that are not trained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from transformers import AutoTokenizer, CLIPImageProcessorPil

from polysense.models.mera import MeraForConditionalGeneration, MeraProcessor
from polysense.models.unialign import UniAlignModel, UniAlignProcessor
from polysense.recipes import llama_anchor
from polysense.recipes.answering import AnsweringSettings
from polysense.recipes.config import read_config
from polysense.recipes.mera_config import MeraRecipe
from polysense.recipes.unialign import UniAlignRecipe
from polysense.testing import tiny_anchor
from polysense.world import WorldConfig, build_world

SIZE, PATCH = 64, 16  # of the pictures of `training/anchors/clip.yaml`, on which the number of tokens depends


@dataclass(frozen=True)
class Untrained:
    """The world's recipe, whose language model and encoder are folders, and the encoder's image processor."""

    recipe: MeraRecipe
    anchor: Path

    def model(self, senses: Sequence[str]) -> tuple[MeraForConditionalGeneration, MeraProcessor]:
        """A model that has these senses, without having learned them, and its processor."""
        chosen = {name: self.recipe.senses[name] for name in senses}
        tokenizer = AutoTokenizer.from_pretrained(self.recipe.llm)
        model = MeraForConditionalGeneration.from_parts(
            self.recipe.llm, {name: each.encoder for name, each in chosen.items()},
            {name: each.connector for name, each in chosen.items()}, tokenizer=tokenizer,
            pools={name: each.pool for name, each in chosen.items()},
        )  # fmt: skip
        return model, MeraProcessor.from_model(model, tokenizer, CLIPImageProcessorPil.from_pretrained(self.anchor))


def untrained(
    folder: Path, stills: int, clips: int, *, config: str = "world", llama: Sequence[str] = (), corpus: int = 1000
) -> Untrained:
    """Build the world and the parts.

    Args:
        folder: gets all files.
        stills, clips: samples to train on; the other splits have two each.
        config: of `training/mera`.
        llama: further overrides of `training/anchors/llama.yaml`.
        corpus: texts that the tokenizer is made from.
    """
    recipe = read_config(MeraRecipe, "mera", config)
    counts = {kind: {"train": number, "validation": 2, "test": 2, "compositional": 2}
              for kind, number in (("stills", stills), ("clips", clips))}  # fmt: skip
    level = "standard" if recipe.world is None else recipe.world.difficulty
    build_world(folder / "world", WorldConfig(difficulty=level, counts=counts))
    small = ["loop.steps=1", "loop.warmup_steps=0", "batch_size=1", f"corpus={corpus}"]
    llm = llama_anchor.run("llama", folder, [*small, *llama])
    anchor = tiny_anchor(folder / "anchor", size=SIZE, patch_size=PATCH)
    encoder = _encoder(folder / "encoder", anchor, recipe.senses)
    senses = {name: replace(each, encoder=str(encoder)) for name, each in recipe.senses.items()}
    recipe = replace(
        recipe, llm=str(llm), senses=senses, data_root=str(folder / "world"), world=None,
        evaluation=AnsweringSettings(), frozen_store=str(folder / "tokens"),
    )  # fmt: skip
    return Untrained(recipe, anchor)


def _encoder(folder: Path, anchor: Path, senses: Mapping[str, object]) -> Path:
    settings = read_config(UniAlignRecipe, "unialign", "world").senses
    specs = [settings[name].spec(name) for name in senses if name in settings]
    UniAlignModel.from_clip(anchor, specs).save_pretrained(folder)
    UniAlignProcessor.from_clip(anchor, specs).save_pretrained(folder)
    return folder
