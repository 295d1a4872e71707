"""Cells of COMET's report: their world, nets and sequences, which all share, and what each of them computes."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from polysense.recipes.cells import Cell, settings_key
from polysense.recipes.code_transfer import own_results
from polysense.recipes.comet import CometRun
from polysense.recipes.comet_codes import CometReader, SequenceReader
from polysense.recipes.comet_config import CometRecipe
from polysense.recipes.comet_downstream import DownstreamSettings, score_codes
from polysense.recipes.comet_variants import ORDERS, SPOKEN, recipe_of
from polysense.recipes.config import import_modules, read_config
from polysense.recipes.evaluation import Result
from polysense.recipes.feature_pairs import PairRecipe, PairSettings, PairStages
from polysense.recipes.sources import WorldSettings
from polysense.recipes.turns import taking_turns
from polysense.world import WorldSummary, load_world

RAW = "raw"
"""Method of the cell that extracts all sequences and trains heads on them as they are: the bound without codes.

Its order is that of another config or world, or none for all orders of the report's own."""
_SPEECH_PAIR = "speech-text"
_SEGMENTATION = "segmentation-world"

Figures = Mapping[str, Mapping[str, float | None]]
"""Name of a figure to its `value`, `chance` and `bound`."""


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What all cells of a recipe rest on, before anything but the world is made.

    Attributes:
        recipe: as its config has it, with the places of worlds, nets and sequences.
        world: its content.
        key: of recipe, features and world.
        output: folder of all that is made.
    """

    recipe: CometRecipe
    world: WorldSummary
    key: str
    output: Path

    @property
    def folder(self) -> Path:
        """Where the checkpoints of this setting's cells go."""
        return self.output / "comet" / self.key

    def base(self) -> CometRecipe:
        """The recipe with its nets and encoders trained, which all seeds share, as folders."""
        import_modules([*self.recipe.imports, *(self.recipe.features.imports if self.recipe.features else ())])
        made = CometRun(self.recipe, self.folder / "parts").recipe
        return replace(made, features=None, spoken="", data=replace(made.data, world=None))


def setting(config: str, output: Path, overrides: Sequence[str] = ()) -> Setting:
    """Build the world of a recipe, and tell what its cells are called by."""
    recipe = read_config(CometRecipe, "comet", config, overrides)
    world = recipe.data.world or WorldSettings()
    folder = world.folder(output)
    world.build(folder)
    built = load_world(folder)
    features = settings_key(_elsewhere(recipe).features)
    key = settings_key(_elsewhere(recipe), built.content_hash)
    return Setting(recipe=_placed(recipe, folder, output, features), world=built, key=key, output=output)


def _elsewhere(recipe: CometRecipe) -> CometRecipe:
    """The recipe without licences, and the places of what it reads and keeps, which change no figure."""
    features = recipe.features and replace(recipe.features, data_root="")
    pairs = {name: replace(pair, license=PairSettings.license) for name, pair in recipe.data.pairs.items()}
    return replace(recipe, features=features, data=replace(recipe.data, data_root="", nets="", store="", pairs=pairs))


def _placed(recipe: CometRecipe, world: Path, output: Path, features: str) -> CometRecipe:
    """The recipe with all of that in `output`; nets lie in a folder called after what trains them, `features`."""
    kept = (output / "features").resolve()
    pairs = {
        name: replace(pair, root=str(Path(pair.root).resolve()) if pair.root else "")
        for name, pair in recipe.data.pairs.items()
    }
    data = replace(
        recipe.data, data_root=str(world.resolve()), nets=str(kept / features / "nets"), store=str(kept / "sequences"),
        pairs=pairs,
    )  # fmt: skip
    nets = recipe.features and replace(recipe.features, data_root=str(kept / "world"))
    spoken = pairs[_SPEECH_PAIR].root if _SPEECH_PAIR in pairs else ""
    return replace(recipe, features=nets, data=data, spoken=spoken)


# ---- a cell ---------------------------------------------------------------------------------------------------------


def work(cell: Cell, *, base: CometRecipe, output: Path) -> dict[str, Any]:
    """One cell: of every stage its figures, codes, steps and seconds; or the bounds on raw sequences.

    Args:
        base: the recipe with its nets.
        output: folder of all cells' checkpoints.
    """
    import_modules(base.imports)
    if cell.method == RAW:
        orders = [] if cell.order else list(ORDERS.values())
        return {"raw": raw_bounds(base, [*(stage.pairs for stage in base.stages), *orders])}
    folder = output / f"seed{cell.seed}"
    stages = trained(recipe_of(cell, base), folder)
    records = [_stage(stage) for stage in stages]
    if cell.order == SPOKEN:
        for stage, record in zip(stages, records, strict=True):
            record["figures"] |= segmented(stage, Path(base.data.data_root), cell.seed)
    for stage in stages:
        shutil.rmtree(folder / "training" / stage.name, ignore_errors=True)  # it is finished, and disks are not
    return {"stages": records}


def trained(recipe: CometRecipe, folder: Path) -> list[Path]:
    """The stage folders of a run, each left to one process, for others may have it too."""
    run = CometRun(recipe, folder)
    for number, stage in enumerate(run.folders(), start=1):
        with taking_turns(folder / "turns" / stage.name):
            run.run(through=number)
    return run.folders()


def segmented(stage: Path, root: Path, seed: int) -> dict[str, Any]:
    """What a head that learned masks from text does when it is asked by speech, once the stage knows that."""
    reader = CometReader.from_pretrained(stage)
    settings = replace(read_config(DownstreamSettings, "comet", _SEGMENTATION), seed=seed)
    return figures(score_codes(settings, reader, reader.modalities, root, size=reader.size).results)


def raw_bounds(base: CometRecipe, orders: Sequence[Sequence[str]]) -> dict[str, Any]:
    """Extract the sequences of the pairs of some orders, and score heads on those that the transfers are tested on."""
    extract(base.data, [pair for order in orders for pair in order])
    pairs = PairStages(base.data)
    reader = SequenceReader(pairs.extractor, base.data.steps, lambda sense: pairs.store(sense, {"of": "files"}))
    root, found = Path(base.data.data_root), dict[str, Any]()
    for transfer in base.evaluation.transfer.values():
        found |= figures(own_results(transfer, reader, root, seed=base.evaluation.seed))
    return found


def extract(recipe: PairRecipe, names: Sequence[str]) -> None:
    """Fill the stores that stages with these pairs will read; pairs that the recipe lacks are left out."""
    pairs = PairStages(recipe)
    for name in dict.fromkeys(names):
        if name in recipe.pairs:
            pairs.begin([name])
    pairs.begin([])


def _stage(folder: Path) -> dict[str, Any]:
    stage = json.loads((folder / "stage.json").read_text(encoding="utf-8"))
    metrics = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
    kept = {key: stage[key] for key in ("name", "trained", "steps", "seconds")}
    codes = {key: metrics.get("codes", {}).get(key) for key in ("active_in", "dead", "perplexity")}
    found = figures([Result(**each) for each in metrics["results"]])
    return {**kept, "figures": found, "codes": codes, "codebook": metrics["codebook"]}


def figures(results: Sequence[Result]) -> dict[str, Any]:
    """Results by their names; several on data sets of one name are no different figures."""
    return {
        figure_name(each.task, each.dataset, each.metric):
            {"value": each.value, "chance": each.chance, "bound": each.upper_bound}
        for each in results
    }  # fmt: skip


def figure_name(task: str, dataset: str, metric: str) -> str:
    """What a cell's file calls a figure."""
    return f"{task} | {dataset} | {metric}"


__all__ = ["RAW", "Figures", "Setting", "figure_name", "figures", "setting", "trained", "work"]
