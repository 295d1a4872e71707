"""What COMET claims about several processes: gradients, a codebook equal to the bit, and whole runs of its recipe."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from polysense.data import Batch
from polysense.models.comet import CometModel
from polysense.recipes import comet
from polysense.testing import tiny_comet_recipe
from polysense.testing.comet_recipe import STEP_SIZES
from polysense.trainer import Hooks, LoopConfig, train
from tests.distributed.cases import Sparse
from tests.distributed.harness import case, close, gradients, run_ranks, succeeded
from tests.trainer.comet_pairs import objective, pairs, second_stage

SAMPLES = 8  # of all processes together, in every step
SLOW = 180.0


def agree(outcomes: Sequence[dict[str, Tensor]]) -> None:
    """All processes have the same tensors, to the bit."""
    for other in outcomes[1:]:
        different = [name for name, each in outcomes[0].items() if not torch.equal(each, other[name])]
        assert not different, different


def one_step(world: int, rank: int) -> Any:
    """Gradients and loss of a step of the second stage, and the codes and approximations after it.

    In double precision, where no gradient is so small that rounding decides it.
    """
    made, senses = second_stage(), ("video", "text")
    made.module.double()
    found, loss = gradients(made, pairs(SAMPLES // world, senses).build(3, rank, world), slots=senses[:1])
    made.after_step(True)
    model = made.module.model
    return found, loss, {**model.codebook.state_dict(), **model.approximations.state_dict()}


@case
def several_processes_have_the_step_of_one_that_has_all_their_samples(folder: Path) -> None:
    ((expected, expected_loss, expected_state),) = succeeded(run_ranks(partial(one_step, 1), world=1, watchdog=SLOW))
    for world in (2, 4):
        outcomes = succeeded(run_ranks(partial(one_step, world), world=world, watchdog=SLOW))
        for found, loss, state in outcomes:
            close(found, expected)
            close(state, expected_state)
            assert math.isclose(loss, expected_loss, rel_tol=1e-5)
        agree([state for _, _, state in outcomes])


@case
def codebooks_are_equal_to_the_bit_on_all_of_one_two_and_four_processes(folder: Path) -> None:
    def run(world: int, rank: int) -> Any:
        made = objective(codebook_sizes=[40], restart_after=1)
        restarts: list[int] = []
        config = LoopConfig(steps=6, optimizer="sgd", learning_rate=0.05, weight_decay=0.0, loader_workers=0)
        hooks = Hooks(on_step_end=lambda state: restarts.append(made.restarts))
        train(made, pairs(SAMPLES // world), config, folder / str(world), hooks=hooks)
        return dict(made.module.state_dict()), restarts

    codebooks: list[dict[str, Tensor | None]] = []
    restarts: list[list[int]] = []
    for world in (1, 2, 4):
        outcomes = succeeded(run_ranks(partial(run, world), world=world, group=False, watchdog=SLOW))
        agree([state for state, _ in outcomes])
        state, restarted = outcomes[0]
        codebooks.append({name: each for name, each in state.items() if "codebook" in name})
        restarts.append(restarted)
    assert sum(restarts[0]) > 0 and restarts[0] == restarts[1] == restarts[2], restarts
    for codebook in codebooks[1:]:
        close(codebook, codebooks[0], tolerance=1e-4)


class Spoiled(Sparse):
    """A mixture in which the second process meets one broken sample, in the third step."""

    def build(self, index: int, rank: int, world: int) -> Sequence[Batch | None]:
        (batch,) = self.mixture.build(index, rank, world)
        if (index, rank) == (2, 1):
            batch.features["audio"]["sequence"][0, 1] = math.nan
        return [batch]


@case
def a_broken_sample_on_one_process_moves_no_code_on_any(folder: Path) -> None:
    def run(rank: int) -> Any:
        made = objective()
        books: list[Tensor] = []
        feed: Any = Spoiled(pairs(), lambda slot, index, rank: False)
        hooks = Hooks(on_step_end=lambda state: books.append(made.module.model.codebook.embedding.clone()))
        result = train(made, feed, LoopConfig(steps=5, loader_workers=0), folder, hooks=hooks)
        return dict(made.module.state_dict()), books, result.skipped_steps

    outcomes = succeeded(run_ranks(run, group=False, watchdog=SLOW))
    agree([state for state, _, _ in outcomes])
    for state, books, skipped in outcomes:
        assert skipped == 1 and all(each.isfinite().all() for each in state.values())
        still = [torch.equal(before, after) for before, after in pairwise(books)]
        assert still == [False, True, False, False]


@case
def processes_that_had_no_samples_in_a_step_have_what_the_others_learned(folder: Path) -> None:
    def run(rank: int) -> Any:
        made = objective()
        feed: Any = Sparse(pairs(), lambda slot, index, rank: index % 3 == rank)
        train(made, feed, LoopConfig(steps=5, loader_workers=0), folder)
        return dict(made.module.state_dict())

    agree(succeeded(run_ranks(run, group=False, watchdog=SLOW)))


@case
def a_whole_run_of_comet_on_two_processes_ends_as_that_of_one(folder: Path) -> None:
    """First codes, growth, and what EWC takes from a stage are those of all processes' samples too.

    Without vCLUB, whose Adam makes steps out of rounding, and without restarts, whose codes are nearly alike.
    """

    def write(rank: int) -> Path:
        return tiny_comet_recipe(folder / "parts", steps=3, loop={"optimizer": "sgd", "weight_decay": 0.0})

    calm = ["objective.information=0.0", "model.restart_after=0"]

    def run(output: Path, batch_size: int, rank: int) -> Path:
        sizes = [f"data.pairs.{sense}-text.batch_size={batch_size}" for sense in STEP_SIZES]
        return comet.run(str(folder / "parts" / "tiny-comet.yaml"), output, [*sizes, *calm])

    succeeded(run_ranks(write, world=1, group=False, watchdog=SLOW))
    two = succeeded(run_ranks(partial(run, folder / "two", 2), group=False, watchdog=SLOW))
    (one,) = succeeded(run_ranks(partial(run, folder / "one", 4), world=1, group=False, watchdog=SLOW))
    assert two[0] == two[1]

    def ended(rank: int) -> Any:
        return [(dict(CometModel.from_pretrained(stage).state_dict()), load_file(stage / "ewc" / "state.safetensors"))
                for stage in (two[0], one)]  # fmt: skip

    (((weights, ewc), (expected_weights, expected_ewc)),) = succeeded(run_ranks(ended, world=1, watchdog=SLOW))
    close(weights, expected_weights, tolerance=1e-4)
    close(dict(ewc), dict(expected_ewc), tolerance=1e-3)
