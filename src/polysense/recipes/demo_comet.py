"""`make demo-comet`: films and sounds share one codebook, each paired with text alone, with COMET and without it."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from polysense.data import Manifest
from polysense.recipes import demo
from polysense.recipes.comet import CometRun
from polysense.recipes.comet_config import CometRecipe
from polysense.recipes.comet_evaluation import pictures
from polysense.recipes.config import read_config
from polysense.recipes.provenance import wall_time
from polysense.report import Table, codes_line, method_name, read_run, snippet, write_report

FOLDER = "comet"
"""Where a demonstration's folder has its COMET run."""
_NETS = "comet-features"
_METRIC = "last epoch"
_RETRIEVED = "R@10"
_FIGURES = ("value", "chance", "upper_bound")


def run(
    output: Path, say: demo.Say, show: Callable[[Sequence[Table]], None], config: str | Path = "demo",
    overrides: Sequence[str] = (),
) -> Path:  # fmt: skip
    """Run the demonstration on the world of `demo.run`, which is built if `output` does not hold it.

    The stages of the method alone and those with COMET lie in one run folder. Returns the report page.

    Args:
        say: shows a line to the user.
        show: shows tables.
        config: a config of `training/comet`.
    """
    started, root = time.monotonic(), demo.world_of(output)
    recipe = _in(output, root, read_config(CometRecipe, "comet", config, overrides, imports=()))
    folder = output / FOLDER
    for comet in (False, True):  # the last one is what the folder's config says
        work = CometRun(replace(recipe, comet=comet), folder)
        if not comet:
            say(f"World and nets are there, after {wall_time(started)}: {work.recipe.data.nets}")
        work.run()
    page = write_report(folder, pictures(folder))
    done = read_run(folder)
    results = {method_name(chain[-1]): [list(stage.results) for stage in chain] for chain in done.chains}
    show([_transfer(results), _kept(results)])
    say(f"\nFinished in {wall_time(started)}. Report with a map of the codes: {page}")
    say(f"Every stage is a checkpoint under {folder / 'stages'}. Codes of a film and of its sound:\n")
    sample = Manifest(root / "manifests" / "clips-test.jsonl", root=root)[0]
    say(codes_line(done, *(os.path.relpath(str(sample.ref(sense).source)) for sense in ("video", "audio"))))
    say("\nAnd of a file of your own:\n\n" + snippet(done))
    return page


def _in(output: Path, root: Path, recipe: CometRecipe) -> CometRecipe:
    """A recipe with its world, nets and sequences in the demonstration's folder."""
    nets = output / _NETS
    data = replace(recipe.data, data_root=str(root), nets=str(nets / "nets"), store=str(nets / "sequences"))
    features = recipe.features and replace(recipe.features, data_root=str(nets / "world"))
    return replace(recipe, data=data, features=features)


Results = Mapping[str, Sequence[Sequence[Mapping[str, Any]]]]
"""Method to the results of its stages."""


def _transfer(results: Results) -> Table:
    """Heads that learned from labels of one sense, tested on another that was never paired with it."""
    rows = [
        [str(each["task"]), str(each["dataset"]), method, *(_percent(each.get(key)) for key in _FIGURES)]
        for method, stages in results.items()
        for each in stages[-1]
        if str(each["metric"]).endswith(_METRIC) and "by batch" not in str(each["metric"])
        and not str(each["dataset"]).endswith("(published)")
    ]  # fmt: skip
    head = ["learned and tested", "data", "method", "score", "chance", "same sense"]
    return Table("labels of one sense, tested on another", head, sorted(rows), left=3)


def _kept(results: Results) -> Table:
    """What every stage finds by codes: the first column shows what is forgotten."""
    names = list(dict.fromkeys(name for stages in results.values() for each in stages for name in _found(each)))
    rows = [
        [name, method, *(_percent(_found(stage).get(name)) for stage in stages)]
        for name in names
        for method, stages in results.items()
    ]
    count = max(map(len, results.values()), default=0)
    head = ["retrieval by codes", "method", *(f"stage {number}" for number in range(1, count + 1))]
    return Table(f"{_RETRIEVED} after each stage", head, rows)


def _found(stage: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    return {
        str(each["task"]).removeprefix("retrieval "): float(each["value"])
        for each in stage
        if each["metric"] == _RETRIEVED
    }


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f}"


__all__ = ["FOLDER", "run"]
