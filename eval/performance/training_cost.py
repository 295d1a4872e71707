"""Benchmark ME17: what MERA adds to fine-tuning is its share of replayed samples, in steps, time and memory.

    python -m eval.performance.training_cost [--repeats 9] [--threads 2] [--out eval/reports/performance]

The fourth stage of the world's recipe (pictures, video and sound are there, point clouds join) as plain fine-tuning
and as MERA with 10 % of replay, from one checkpoint. As in the paper, every phase goes through its samples once; all
have one batch size, so that steps count samples. A side is the whole run of the stage: loading, both phases, merging,
realigning, and the checkpoint on disk. Frozen tokens come from a store that is filled first, as in the reports. Steps
are exact; the time is that of both sides in turn; peak memory that of a fresh process. The exit code is 1 when a gate
is missed.
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from eval.performance.harness import Gate, Report, arguments, take_turns
from eval.performance.memory import MIB, growth, in_child
from eval.performance.untrained import untrained
from polysense.recipes.extension import open_start
from polysense.recipes.mera import MeraRun
from polysense.recipes.mera_config import MeraRecipe

SAMPLES, BATCH, REPLAY, CORPUS = 160, 16, 0.1, 1000
LLAMA = {"hidden_size": 192, "intermediate_size": 512, "num_hidden_layers": 4, "num_attention_heads": 4,
         "num_key_value_heads": 4}  # fmt: skip
PLAIN, MERA = "fine-tuning", "MERA"


def sides_of(recipe: MeraRecipe) -> dict[str, MeraRecipe]:
    """The recipe of the last sense's stage, by each method; every data set has as many samples as the others."""
    sources = {name: replace(each, data=replace(each.data, limit=SAMPLES)) for name, each in recipe.sources.items()}
    if recipe.realign is None:
        sys.exit("the recipe does not realign: there is nothing to compare")
    once: dict[str, Any] = {"epochs": 1.0, "steps": None, "batch_size": BATCH}
    mera = replace(
        recipe, sources=sources, stages=recipe.stages[-1:], connector=replace(recipe.connector, **once),
        joint=replace(recipe.joint, **once), realign=replace(recipe.realign, replay=REPLAY, **once),
    )  # fmt: skip
    return {PLAIN: replace(mera, merge=None, realign=None), MERA: mera}


def run_stage(recipe: MeraRecipe, start: Path, output: Path) -> dict[str, Any]:
    """Train the stage in an empty folder; its record."""
    shutil.rmtree(output, ignore_errors=True)
    (folder,) = MeraRun(recipe, output, open_start(start)).run()
    record: dict[str, Any] = json.loads((folder / "stage.json").read_text())
    return record


def peak_of(recipe: MeraRecipe, start: Path, output: Path) -> int:
    """Bytes by which the resident set of this process grows at most."""
    return growth(partial(run_stage, recipe, start, output))


def measure(report: Report, recipe: MeraRecipe, start: Path, root: Path, repeats: int) -> None:
    sides = sides_of(recipe)
    calls: dict[str, Callable[[], dict[str, Any]]] = {
        side: partial(run_stage, each, start, root / side) for side, each in sides.items()
    }
    steps = {side: int(call()["steps"]) for side, call in calls.items()}
    peaks = {side: in_child(peak_of, each, start, root / side) for side, each in sides.items()}
    times = take_turns(calls, repeats)
    replayed, plain = round(REPLAY * SAMPLES) * len(recipe.stages), 2 * SAMPLES
    share, longer = replayed / plain, times[MERA].min / times[PLAIN].min - 1
    report.figures |= {
        "a stage: optimiser steps": steps,
        "a stage: ms": times,
        "a stage: peak bytes": peaks,
        "samples": {"connector and joint phase": plain, "realigning": replayed},
    }
    report.gates += [
        Gate("replayed samples / samples of both phases", share),
        Gate("further steps / fine-tuning's, minus that share", steps[MERA] / steps[PLAIN] - 1 - share,
             at_least=-1e-9, at_most=1e-9),
        Gate("further time / fine-tuning's", longer),
        Gate("further time / fine-tuning's, divided by that share", longer / share, at_most=1.2),
        Gate("further processor time / fine-tuning's, divided by that share",
             (times[MERA].cpu / times[PLAIN].cpu - 1) / share),
        Gate("peak MiB, fine-tuning", peaks[PLAIN] / MIB),
        Gate("peak memory, MERA / fine-tuning", peaks[MERA] / peaks[PLAIN], at_most=1.05),
    ]  # fmt: skip


def main() -> int:
    parsed = arguments("eval.performance.training_cost", __doc__, repeats=9)
    report = Report("training_cost", "python -m eval.performance.training_cost", parsed.seed, ("transformers", "peft"))
    with tempfile.TemporaryDirectory() as name:
        root, sizes = Path(name), [f"model.{key}={value}" for key, value in LLAMA.items()]
        parts = untrained(root / "parts", SAMPLES, SAMPLES, llama=sizes, corpus=CORPUS)
        model, processor = parts.model(parts.recipe.stages[:-1])
        for each in (model, processor):
            each.save_pretrained(root / "start")
        measure(report, replace(parts.recipe, seed=parsed.seed), root / "start", root, parsed.repeats)
    return report.write(parsed.out)


if __name__ == "__main__":
    sys.exit(main())
