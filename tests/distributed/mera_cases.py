"""What MERA's recipe claims about several processes: its phases, whole runs, and sharded ones (FSDP2)."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor

from polysense.continual.stage_adapter import add_adapter
from polysense.errors import ConfigError
from polysense.models.mera import MeraForConditionalGeneration
from polysense.recipes import mera, mera_stage
from polysense.recipes.config import read_config
from polysense.recipes.mera import MeraRecipe, MeraRun
from polysense.recipes.mera_stage import StageTraining
from polysense.testing import tiny_recipe
from polysense.testing.toy import ToyObjective, toy_mixture
from polysense.trainer import Hooks, LoopConfig, train
from polysense.trainer.optimizer import trainable_parameters
from polysense.trainer.sharding import is_sharded
from polysense.trainer.step import StepRunner
from tests.distributed.harness import TOLERANCE, case, close, gradients, run_ranks, succeeded

PHASES = ("connector", "joint", "realign")
SGD = {"optimizer": "sgd", "weight_decay": 0.0, "save_every": 2}
FSDP = {"ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2", "FSDP_RESHARD_AFTER_FORWARD": "true"}
SLOW = 180.0

Use = Callable[[Any, Any, LoopConfig, Path], Any]


def parts(folder: Path) -> Path:
    """The tiny recipe, written by a child: a process that forks must not have computed with torch."""

    def write(rank: int) -> None:
        (folder / "parts").mkdir()
        tiny_recipe(folder / "parts", steps=3, loop=SGD)

    succeeded(run_ranks(write, world=1, group=False, watchdog=SLOW))
    return folder / "parts" / "tiny.yaml"


def in_phase(config: Path, work: Path, name: str, batch_size: int, use: Use) -> Any:
    """What `use` makes of the training that a phase of the second stage comes to, with a penalty in the joint one."""
    sizes = [f"{phase}.batch_size={batch_size}" for phase in PHASES]
    recipe = read_config(MeraRecipe, "mera", str(config), sizes)
    run = MeraRun(recipe, work)
    model, processor = run.begin(None, "image")
    model.add_modality("depth", "image", seed=0, tokenizer=processor.tokenizer)
    processor.add_modality(model.config.senses["depth"].modality, model.token_layout("depth"))
    penalties: Any = {}
    if name != "connector":
        add_adapter(model, recipe.adapter, stage=2, seed=0)
    if name == "joint":
        penalties = {"held": lambda: sum(each.square().sum() for each in trainable_parameters(model).values())}
    (phase,) = [phase for phase in run.stages[1].phases if phase.name == name]
    found: list[Any] = []

    def stand_in(objective: Any, feed: Any, config: LoopConfig, folder: Path) -> Any:
        found.append(use(objective, feed, config, folder))
        return train(objective, feed, replace(config, steps=1), work / "rest")

    with patch.object(mera_stage, "train", stand_in):
        StageTraining(recipe, run.datasets, model, processor, work).run(phase, penalties)
    return found[0]


def both(folder: Path, name: str, use: Use) -> tuple[Any, Any]:
    """What two processes come to with batches of 2, and one with batches of 4."""
    config = parts(folder)

    def run(rank: int, batch_size: int) -> Any:
        return in_phase(config, folder / f"{name}-{batch_size}-{rank}", name, batch_size, use)

    two = succeeded(run_ranks(partial(run, batch_size=2), watchdog=SLOW))
    (one,) = succeeded(run_ranks(partial(run, batch_size=4), world=1, watchdog=SLOW))
    close(two[1], two[0])
    return two[0], one


@case
def two_processes_give_the_gradients_of_one_in_every_phase_of_mera(folder: Path) -> None:
    def use(objective: Any, feed: Any, config: LoopConfig, work: Path) -> Any:
        rank, world = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
        found = gradients(objective, feed.build(1, rank, world))[0]
        objective.module.zero_grad()
        return found

    for name in PHASES:
        (folder / name).mkdir()
        close(*both(folder / name, name, use))


@case
def five_sgd_steps_of_two_processes_equal_those_of_one_in_every_phase_of_mera(folder: Path) -> None:
    def use(objective: Any, feed: Any, config: LoopConfig, work: Path) -> Any:
        assert train(objective, feed, replace(config, steps=5, learning_rate=0.05), work).step == 5
        return {name: each.detach().clone() for name, each in trainable_parameters(objective.module).items()}

    for name in PHASES:
        (folder / name).mkdir()
        close(*both(folder / name, name, use))


def weights(stage: Path) -> dict[str, Tensor | None]:
    return dict(MeraForConditionalGeneration.from_pretrained(stage).state_dict())


def logits(stage: Path) -> Tensor:
    model = MeraForConditionalGeneration.from_pretrained(stage)
    token = model.config.senses["depth"].token_id
    tokens = torch.randn(1, 1, 16, 24, generator=torch.Generator().manual_seed(0))
    ids = torch.tensor([[1, *[token] * 16, 8, 9, 10, 11]])
    with torch.no_grad():
        found: Tensor = model(input_ids=ids, depth_tokens=tokens).logits
    return found


def whole_run(config: Path, output: Path, batch_size: int, rank: int, optimizer: str = "sgd") -> Path:
    sizes = [f"{phase}.batch_size={batch_size}" for phase in PHASES]
    return mera.run(str(config), output, [*sizes, f"loop.optimizer={optimizer}"])


@case
def a_whole_run_of_two_processes_ends_as_that_of_one(folder: Path) -> None:
    config = parts(folder)
    two = succeeded(run_ranks(partial(whole_run, config, folder / "two", 2), group=False, watchdog=SLOW))
    (one,) = succeeded(run_ranks(partial(whole_run, config, folder / "one", 4), world=1, group=False, watchdog=SLOW))
    assert two[0] == two[1]
    (first, second) = succeeded(run_ranks(lambda rank: weights((two[0], one)[rank]), watchdog=SLOW))
    close(first, second)


@case
def a_sharded_run_of_mera_trains_saves_resumes_and_reloads_as_one_that_is_not(folder: Path) -> None:
    """Parameters, gradients and optimiser states are in shares while it trains, and whole in whatever it writes."""
    config = parts(folder)

    def sharded_run(rank: int) -> Any:
        os.environ.update(FSDP)
        shares: list[float] = []
        finish = StepRunner.finish

        def noting(runner: StepRunner, step: int) -> Any:
            trained: Any = runner.parameters
            assert all(map(is_sharded, trained))
            shares.append(sum(each.to_local().numel() for each in trained) / sum(each.numel() for each in trained))
            return finish(runner, step)

        def leave(state: Any) -> None:
            if state.step == 3 and state.folder.name == "joint":
                raise KeyboardInterrupt

        with patch.object(StepRunner, "finish", noting):
            stage = whole_run(config, folder / "sharded", 2, rank, "adamw")
            with patch.object(mera_stage, "train", partial(train, hooks=Hooks(on_step_end=leave))):
                try:
                    whole_run(config, folder / "interrupted", 2, rank, "adamw")
                except KeyboardInterrupt:
                    return stage, shares
        raise AssertionError("the run was not interrupted")

    def resumed(rank: int) -> Path:
        os.environ.update(FSDP)
        return whole_run(config, folder / "interrupted", 2, rank, "adamw")

    (stage, shares), (_, others) = succeeded(run_ranks(sharded_run, group=False, watchdog=SLOW))
    assert shares and all(0.4 < each < 0.6 for each in (*shares, *others)), (shares, others)
    (again, _) = succeeded(run_ranks(resumed, group=False, watchdog=SLOW))
    unsharded = partial(whole_run, config, folder / "plain", 2, optimizer="adamw")
    plain, _ = succeeded(run_ranks(unsharded, group=False, watchdog=SLOW))

    def compare(rank: int) -> tuple[float, bool]:
        first, second = weights(stage), weights(again)
        same = all(torch.equal(first[key], second[key]) for key in first)  # type: ignore[arg-type]
        return float((logits(stage) - logits(plain)).abs().max()), same

    ((difference, same),) = succeeded(run_ranks(compare, world=1, watchdog=SLOW))
    assert difference <= TOLERANCE and same, (difference, same)


@case
def what_cannot_be_sharded_is_said(folder: Path) -> None:
    def run(rank: int, version: str) -> str:
        os.environ.update({**FSDP, "FSDP_VERSION": version})
        try:
            train(ToyObjective(), toy_mixture(4), LoopConfig(steps=1), folder)
        except ConfigError as error:
            return str(error)
        return ""

    messages = [succeeded(run_ranks(partial(run, version=each), group=False)) for each in "12"]
    assert "FSDP of version 1 is not supported" in messages[0][0]
    assert "ToyObjective cannot be sharded" in messages[1][1]
