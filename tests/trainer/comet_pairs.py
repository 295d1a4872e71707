"""A pair of senses for the tiny COMET model, shared by the tests of its objective in one and in two processes.

`python -m tests.trainer.comet_pairs` compares two processes with one and prints "equal", or what differs: a process
that forks must not have computed with torch, so this runs outside pytest.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from torch import Tensor

from polysense.continual import apply_freezing
from polysense.continual.codebook_stage import CodebookStage, begin_stage
from polysense.data import Batch, MediaRef, Mixture, Sample, Source
from polysense.data.rng import keyed_rng
from polysense.modality import JsonValue
from polysense.models.comet import CometModel
from polysense.trainer import LoopConfig, train
from polysense.trainer.comet import CometObjective, CometSettings
from polysense.trainer.distributed import exchange
from polysense.trainer.optimizer import build_optimizer, trainable_parameters
from polysense.trainer.step import StepRunner
from tests.distributed.cases import Sparse
from tests.distributed.harness import Plain, run_ranks
from tests.models.comet.tiny import SENSES, tiny_comet

STEPS = 5
PAIR = ("audio", "text")


@dataclass(frozen=True)
class Pairs:
    """Sequences of two senses that share their first numbers; texts are shorter by up to two steps."""

    length: int = 23

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> Sample:
        shared = keyed_rng("pair", index).normal(size=(STEPS, 3))
        media = {}
        for name in SENSES:
            sizes = (*SENSES[name].get("grid", ()), SENSES[name]["feature_dim"])
            values = keyed_rng("pair", index, name).normal(size=(STEPS, *sizes)).astype(np.float32)
            values[..., :3] += shared.reshape(STEPS, *[1] * (len(sizes) - 1), 3)
            media[name] = MediaRef(values[: STEPS - index % 3 if name == "text" else STEPS])
        return Sample(f"pair-{index}", media)

    def labels(self, modality: str) -> Sequence[str | None]:
        return [None] * self.length


def padded(
    modality: str,
    sources: Sequence[Any],
    *,
    facts: Sequence[Mapping[str, JsonValue]],
    rngs: Sequence[np.random.Generator] | None,
) -> dict[str, Tensor]:
    sequence = torch.zeros(len(sources), STEPS, *sources[0].shape[1:])
    mask = torch.zeros(len(sources), STEPS, dtype=torch.bool)
    for row, source in enumerate(sources):
        sequence[row, : len(source)], mask[row, : len(source)] = torch.from_numpy(source), True
    return {"sequence": sequence, "mask": mask}


def pairs(batch_size: int = 4, senses: Sequence[str] = PAIR) -> Mixture:
    source = Source(
        name="pairs", modality=senses[0], anchors=tuple(senses[1:]), dataset=Pairs(), batch_size=batch_size
    )
    return Mixture([source], padded, seed=0)


def first_batch(senses: Sequence[str] = PAIR) -> Batch:
    return pairs(12, senses).build(0)[0]


def objective(settings: CometSettings | None = None, **config: Any) -> CometObjective:
    """The first stage, ready to train."""
    model = tiny_comet(*PAIR, **config)
    begin_stage(model, CodebookStage(pair=PAIR), {}, first_batch().features, first=True)
    chosen = settings or CometSettings(information=float(model.config.information))
    made = CometObjective(model, modalities=PAIR, settings=chosen)
    made.module.train()
    return made


def second_stage(teacher: Any = "frozen", model: CometModel | None = None, **settings: Any) -> CometObjective:
    """Video joins audio and text through text, with replay and a larger codebook."""
    model = model or objective().module.model
    stage = CodebookStage(pair=("video", "text"), rows=3, pmr_teacher=teacher)
    batch = first_batch(stage.pair)
    replay = begin_stage(model, stage, {"video": SENSES["video"]}, batch.features, first=False)
    apply_freezing(model, model.freezing(stage.pair))
    made = CometObjective(model, modalities=stage.pair, settings=CometSettings(**settings), replay=replay)
    made.module.train()
    return made


def one_step(batches: Sequence[Batch | None]) -> Any:
    """Reduced gradients of one step, the codebook after it, and the loss."""
    made = second_stage()
    parameters = trainable_parameters(made.module)
    config = LoopConfig(steps=1, optimizer="sgd", learning_rate=1e-9, weight_decay=0.0, max_grad_norm=0.0)
    runner = StepRunner(made, ("video",), parameters, build_optimizer(parameters, config), Plain(), config)
    runner.accumulate(batches, exchange([0 if each is None else len(each) for each in batches]))
    report = runner.finish(0)
    network = made.module.model.approximations
    fitted = {name: each.detach() for name, each in network.named_parameters()}
    return report.loss, report.grad_norm, dict(made.module.model.codebook.state_dict()), fitted


def half(rank: int) -> Any:
    return one_step(pairs(4, ("video", "text")).build(3, rank, 2))


def whole(rank: int) -> Any:
    return one_step(pairs(8, ("video", "text")).build(3, 0, 1))


def absent(folder: Path) -> Callable[[int], Any]:
    """Five steps, in which one process or the other has no sample."""

    def run(rank: int) -> Any:
        made = objective()
        feed: Any = Sparse(pairs(), lambda slot, index, rank: index % 3 == rank)
        train(made, feed, LoopConfig(steps=5, loader_workers=0), folder)
        return dict(made.module.state_dict())

    return run


def differences() -> dict[str, float]:
    """What differs between two processes and one, beyond rounding; and between the two, at all."""
    found: dict[str, float] = {}
    outcomes = [*run_ranks(half), *run_ranks(whole, world=1)]
    for outcome in outcomes:
        if isinstance(outcome, BaseException):
            raise outcome
    first, second, expected = outcomes
    for place, name in ((0, "loss"), (1, "gradient norm")):
        found[name] = abs(first[place] - expected[place]) / abs(expected[place])
    for place in (2, 3):
        for name, reference in expected[place].items():
            found[name] = float((first[place][name] - reference).float().abs().max())
            if not torch.equal(first[place][name], second[place][name]):
                found[f"{name} of the processes"] = 1.0
    return {name: error for name, error in found.items() if error > 1e-5}


def absences(folder: Path) -> dict[str, float]:
    """Tensors that two processes disagree on after steps in which one or the other had no samples."""
    first, second = run_ranks(absent(folder), group=False)
    for outcome in (first, second):
        if isinstance(outcome, BaseException):
            raise outcome
    return {name: 1.0 for name, each in first.items() if not torch.equal(each, second[name])}


def main() -> None:
    torch.set_num_threads(1)
    with TemporaryDirectory() as folder:
        wrong = {**differences(), **absences(Path(folder))}
    sys.stdout.write(f"{wrong}\n" if wrong else "equal\n")


if __name__ == "__main__":
    main()
