"""Benchmark: how much of MERA's batches is padding, with samples grouped by sense and length and without.

    python -m eval.performance.padding [--out eval/reports/performance]

The captions and questions of the embedded world about pictures, video, sound and point clouds, through the mixture
that the world's recipe trains with: a joint phase on all four data sets, and realigning on a tenth of each. Beside
them the same mixture without grouping by length, and the same conversations shuffled over all senses, as trainers that
know no senses have them. An epoch of every data set must have the same samples on both sides, and a step drawn again
must be the same. Shares are exact counts, so nothing is repeated. The exit code is 1 when a gate is missed.
"""

from __future__ import annotations

import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from eval.performance.harness import Gate, Report, arguments
from eval.performance.untrained import untrained
from polysense.continual import Phase
from polysense.data import Mixture
from polysense.recipes.mera_stage import StageTraining
from polysense.trainer.mera import MeraObjective

STILLS, CLIPS, CORPUS = 480, 240, 4000
GROUPED, AS_THEY_COME, SHUFFLED = "by sense and length", "by sense", "shuffled over all senses"
Lengths = list[Tensor]
"""Tokens of the samples of every batch that goes through the model as one."""


def lengths(mixture: Mixture, objective: MeraObjective) -> Lengths:
    """Those of one epoch of the mixture."""
    return [
        objective.inputs(batch.modality, batch)["attention_mask"].sum(dim=1)
        for step in range(mixture.steps_per_epoch())
        for batch in mixture.build(step)
        if len(batch)
    ]


def padded(found: Lengths) -> float:
    """Share of the positions that hold padding."""
    whole = sum(len(each) * int(each.max()) for each in found)
    return 1 - sum(int(each.sum()) for each in found) / whole


def shuffled(found: Lengths, size: int, seed: int) -> Lengths:
    """The same samples in batches of `size`, whatever their senses."""
    every = torch.cat(found)
    return list(every[torch.randperm(len(every), generator=torch.Generator().manual_seed(seed))].split(size))


def ungrouped(mixture: Mixture) -> Mixture:
    sources = [replace(source, length=None) for source in mixture.sources]
    return Mixture(sources, mixture.processor, seed=mixture.seed, augment=mixture.augment)


def check_equality(grouped: Mixture, plain: Mixture) -> None:
    """Stop unless both have the same samples in an epoch of every data set, and a step drawn again is the same."""
    for slot, source in enumerate(grouped.sources):
        steps = range(-(-len(source.dataset) // source.batch_size) * source.every)
        drawn = [[batches[slot].ids for batches in map(mixture.build, steps)] for mixture in (grouped, plain)]
        again = [batches[slot].ids for batches in map(grouped.build, steps)]
        first, second = (Counter(name for ids in each for name in ids) for each in drawn)
        if first != second or again != drawn[0]:
            sys.exit(f"{source.name}: grouping changes which samples an epoch has: nothing was counted")


def measure(report: Report, training: StageTraining, phase: Phase, seed: int) -> None:
    grouped, objective = training.feed(phase)
    plain = ungrouped(grouped)
    check_equality(grouped, plain)
    found = {GROUPED: lengths(grouped, objective), AS_THEY_COME: lengths(plain, objective)}
    found[SHUFFLED] = shuffled(found[AS_THEY_COME], phase.batch_size, seed)
    shares = {side: padded(each) for side, each in found.items()}
    report.figures |= {
        f"{phase.name}: share of padding": shares,
        f"{phase.name}: tokens of a sample": _summary(found[GROUPED]),
    }
    report.gates += [
        Gate(f"{phase.name}: share of padding, {side}", share, at_most=0.1 if side == GROUPED else None)
        for side, share in shares.items()
    ]


def _summary(found: Lengths) -> dict[str, float]:
    every = torch.cat(found)
    return {"fewest": int(every.min()), "mean": float(every.float().mean()), "most": int(every.max())}


def phases(training: StageTraining, names: Sequence[str]) -> list[Phase]:
    """The second and the last phase of a stage, both on all data sets."""
    recipe = training.recipe
    if recipe.realign is None:
        sys.exit("the recipe does not realign: there is nothing to count")
    common: dict[str, Any] = {"trains": {".*": False}, "epochs": 1.0, "learning_rates": {"connectors": 1e-3}}
    return [
        Phase(name="joint", data=list(names), batch_size=recipe.joint.batch_size, **common),
        Phase(name="realign", data=[], batch_size=recipe.realign.batch_size, replay=recipe.realign.replay, **common),
    ]


def main() -> int:
    parsed = arguments("eval.performance.padding", __doc__, repeats=1)
    report = Report("padding", "python -m eval.performance.padding", parsed.seed, ("transformers", "tokenizers"))
    with tempfile.TemporaryDirectory() as root:
        parts = untrained(Path(root), STILLS, CLIPS, corpus=CORPUS)
        recipe = replace(parts.recipe, seed=parsed.seed)
        datasets = {name: each.data.open(Path(recipe.data_root)) for name, each in recipe.sources.items()}
        training = StageTraining(recipe, datasets, *parts.model(list(recipe.stages)), Path(root) / "work")
        for phase in phases(training, list(datasets)):
            measure(report, training, phase, parsed.seed)
    return report.write(parsed.out)


if __name__ == "__main__":
    sys.exit(main())
