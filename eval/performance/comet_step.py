"""Benchmark of a training step of COMET: which parts its time goes to.

    python -m eval.performance.comet_step [--repeats 9] [--threads 2] [--out eval/reports/performance]

The second stage (sounds join films and text, with replay, a grown codebook and EWC) on random features, 80 pairs of 10
steps, by three recipes: the world's, the same with vCLUB, which it leaves out, and the paper's. A step is all that
training does between two batches: terms, backward pass, clipping, optimiser, codes. torch's profiler says when each
part's functions ran; operations of the backward pass belong to the part whose forward operation they undo, by the
number that autograd gives both. What is in no part is named "the rest". Shares are medians over the repeats. Nothing
but encoders and LSTMs is to take more than a tenth. Most of what vCLUB costs are its inner steps: five passes forward
and back through two perceptrons of every sense. The exit code is 1 when a gate is missed.
"""

from __future__ import annotations

import statistics
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import wraps
from itertools import cycle
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile, record_function

from eval.performance.harness import Gate, Report, arguments
from polysense.continual import CodebookStage, OnlineEwc, apply_freezing, begin_stage, ewc_pattern
from polysense.data import Batch, Sample
from polysense.models.comet import CometModel
from polysense.nn import Codebook, CommonSpecificExperts, FrozenCodes
from polysense.nn import sequence_encoder as encoders
from polysense.nn.prediction import ContextPredictor
from polysense.nn.snapshot import Snapshot
from polysense.recipes.comet_config import CometRecipe
from polysense.recipes.config import read_config
from polysense.trainer import comet_terms as training
from polysense.trainer.comet import CometObjective, consolidate
from polysense.trainer.optimizer import build_optimizer, trainable_parameters
from polysense.trainer.penalty import PenalisedObjective
from polysense.trainer.step import StepRunner

BATCH, TIME, WARM_UPS, BATCHES = 80, 10, 3, 3
Senses = Mapping[str, Mapping[str, Any]]
WORLD: Senses = {
    "video": {"feature_dim": 64, "grid": [4, 4]},
    "text": {"feature_dim": 64, "recurrent": True},
    "audio": {"feature_dim": 64},
}
"""What the world's nets give."""
PAPER: Senses = {
    "video": {"feature_dim": 512, "grid": [7, 7]},
    "text": {"feature_dim": 768, "recurrent": True},
    "audio": {"feature_dim": 128},
}
"""VGG19, BERT and VGGish."""

ENCODERS, LSTMS, SPECIFIC, REST = "encoders", "LSTMs of Cross-CPC", "specific encoders", "the rest"
PARTS: dict[str, Sequence[tuple[Any, str]]] = {
    ENCODERS: [(encoders.SemanticEncoder, "front"), (encoders.SemanticEncoder, "forward"), (Snapshot, "forward")],
    SPECIFIC: [(encoders.SpecificEncoder, "forward"), (encoders.MapSpecificEncoder, "forward")],
    LSTMS: [(ContextPredictor, "forward")],
    "decoders": [(encoders.Decoder, "forward"), (encoders.MapDecoder, "forward")],
    "adapter": [(CommonSpecificExperts, "forward")],
    "codebook": [(Codebook, "forward"), (Codebook, "update"), (FrozenCodes, "match")],
    "Cross-CPC": [(training, "predict"), (training, "contrast"), (training, "replay_contrast")],
    "code matching": [(training, "code_distribution"), (training, "cross_modal_code")],
    "commitment": [(training, "commitment")],
    "reconstruction": [(training, "step_error")],
    "gate balance": [(training, "gate_balance")],
    "vCLUB": [(training, "fit_approximation"), (training, "functional_call"), (training, "vclub")],
    "EWC": [(OnlineEwc, "penalty")],
    "optimiser": [(torch.optim.AdamW, "step"), (torch.nn.utils, "clip_grad_norm_")],
}
"""Part to the functions that make it up; of functions within one another the innermost counts."""

UNBOUNDED = (ENCODERS, SPECIFIC, LSTMS)
_MARK = "part: "


class Plain:
    """Stands for an Accelerator where only device and backward are needed."""

    device = torch.device("cpu")

    def backward(self, loss: Tensor) -> None:
        loss.backward()


def batches(senses: Senses, pair: Sequence[str]) -> list[Batch]:
    """Pairs of random sequences; of ten words some are padding."""
    samples, lengths = tuple(Sample(str(row), {}) for row in range(BATCH)), TIME - torch.arange(BATCH) % 3
    found = []
    for _ in range(BATCHES):
        features = {}
        for name in pair:
            sizes = (*senses[name].get("grid", ()), senses[name]["feature_dim"])
            mask = torch.arange(TIME) < (lengths[:, None] if name == "text" else TIME)
            features[name] = {"sequence": torch.randn(BATCH, TIME, *sizes), "mask": mask.expand(BATCH, TIME)}
        found.append(Batch(source="random", modality=pair[0], samples=samples, features=features))
    return found


def second_stage(recipe: CometRecipe, senses: Senses) -> Callable[[], Any]:
    """A function that makes one step of the second stage."""
    first, second = ("video", "text"), ("audio", "text")
    model = CometModel.from_features(
        {name: senses[name] for name in first}, seed=recipe.seed, codebook_sizes=[recipe.codes], **recipe.model
    )
    begin_stage(model, CodebookStage(pair=first), {}, batches(senses, first)[0].features, first=True)
    objective = CometObjective(model, modalities=first, settings=recipe.objective_settings)
    ewc, ready = OnlineEwc(recipe.strength), batches(senses, second)
    consolidate(ewc, objective, batches(senses, first), ewc_pattern(recipe.ewc_scope, "text"))
    stage = CodebookStage(pair=second, rows=recipe.rows, pmr_teacher=recipe.pmr_teacher)
    replay = begin_stage(model, stage, {"audio": senses["audio"]}, ready[0].features, first=False)
    apply_freezing(model, model.freezing(second))
    objective = CometObjective(model, modalities=second, settings=recipe.objective_settings, replay=replay)
    objective.module.train()
    penalised = PenalisedObjective(objective, {"ewc": lambda: ewc.penalty(model.named_parameters())}, slots=1)
    parameters = trainable_parameters(objective.module)
    optimizer, loop, feed = build_optimizer(parameters, recipe.loop), recipe.loop, cycle(ready)
    runner = StepRunner(penalised, second[:1], parameters, optimizer, Plain(), loop)

    def step() -> Any:
        runner.accumulate([next(feed)], [[BATCH]])
        runner.take_terms()
        return runner.finish(loop.warmup_steps)

    return step


@contextmanager
def marked() -> Iterator[None]:
    """Within this block, functions of every part say to the profiler when they run."""
    with ExitStack() as stack:
        for part, functions in PARTS.items():
            for owner, name in functions:
                stack.enter_context(patch.object(owner, name, _marked(getattr(owner, name), part)))
        yield


def _marked(function: Callable[..., Any], part: str) -> Callable[..., Any]:
    @wraps(function)
    def noted(*arguments: Any, **options: Any) -> Any:
        with record_function(_MARK + part):
            return function(*arguments, **options)

    return noted


def times_of(step: Callable[[], Any]) -> dict[str, float]:
    """Milliseconds of one step by part, and "the rest"."""
    with profile(activities=[ProfilerActivity.CPU]) as profiled, record_function(_MARK + REST):
        step()
    return by_part(profiled.events())


def by_part(events: Sequence[Any]) -> dict[str, float]:
    """Milliseconds of every part, from the events of a profile whose outermost one is marked as the rest.

    Time within a marked function is its own, less that of marked functions within it. An operation of the backward
    pass that is in no part but the rest is moved to the part of the forward operation with its number.
    """
    spent: dict[str, float] = defaultdict(float)
    made_by: dict[int, str] = {}
    for event in events:
        part = _part(event)
        if event.name.startswith(_MARK):
            spent[part] += event.time_range.elapsed_us()
            if event.cpu_parent is not None:
                spent[_part(event.cpu_parent)] -= event.time_range.elapsed_us()
        elif event.sequence_nr >= 0 and not _in_backward(event):  # what undoes an operation carries its number too
            made_by[event.sequence_nr] = part
    for event in events:
        if _backward(event) and _part(event) == REST and not _in_backward(event.cpu_parent):
            spent[made_by.get(event.sequence_nr, REST)] += event.time_range.elapsed_us()
            spent[REST] -= event.time_range.elapsed_us()
    return {part: spent[part] / 1000 for part in (*PARTS, REST)}


def _part(event: Any) -> str:
    """The innermost part that an event lies in."""
    while event is not None:
        if event.name.startswith(_MARK):
            return str(event.name.removeprefix(_MARK))
        event = event.cpu_parent
    return REST


def _in_backward(event: Any) -> bool:
    """Whether an event is a function of the backward pass, or lies in one."""
    return event is not None and (_backward(event) or _in_backward(event.cpu_parent))


def _backward(event: Any) -> bool:
    return bool(event.name.startswith("autograd::engine::evaluate_function"))


def shares(recipe: CometRecipe, senses: Senses, repeats: int) -> tuple[dict[str, float], float]:
    """Median share of every part in a step, and the median of a step in milliseconds."""
    step = second_stage(recipe, senses)
    with marked():
        found = [times_of(step) for _ in range(-WARM_UPS, repeats)][WARM_UPS:]
    totals = [sum(each.values()) for each in found]
    parts = {part: statistics.median(each[part] / total for each, total in zip(found, totals, strict=True))
             for part in found[0]}  # fmt: skip
    return dict(sorted(parts.items(), key=lambda each: -each[1])), statistics.median(totals)


def measure(report: Report, name: str, recipe: CometRecipe, senses: Senses, repeats: int) -> None:
    """The shares of one recipe's step, each with its gate."""
    found, total = shares(recipe, senses, repeats)
    report.figures[f"{name}: share of each part"] = found
    report.figures[f"{name}, profiled: ms"] = total
    report.gates += [Gate(f"{name}: share of {part}", share, at_most=None if part in UNBOUNDED else 0.1)
                     for part, share in found.items() if share]  # fmt: skip


def with_vclub(recipe: CometRecipe) -> CometRecipe:
    model, objective = {**recipe.model, "information": True}, replace(recipe.objective, information=1.0)
    return replace(recipe, model=model, objective=objective)


def main() -> int:
    parsed = arguments("eval.performance.comet_step", __doc__, repeats=9)
    report = Report("comet_step", "python -m eval.performance.comet_step", parsed.seed, packages=())
    world, paper = (replace(read_config(CometRecipe, "comet", name), seed=parsed.seed) for name in ("world", "paper"))
    measure(report, "world", world, WORLD, parsed.repeats)
    measure(report, "world with vCLUB", with_vclub(world), WORLD, parsed.repeats)
    measure(report, "paper", paper, PAPER, parsed.repeats)
    return report.write(parsed.out)


if __name__ == "__main__":
    sys.exit(main())
