"""What the loop claims about several processes, each tried with two of them."""

from __future__ import annotations

import itertools
import json
import os
import signal
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from polysense.data import Batch, Mixture
from polysense.errors import CheckpointError, PolysenseError, QuotaExceededError
from polysense.testing.toy import SENSES, ToyObjective, toy_mixture
from polysense.trainer import FileSystem, Hooks, LoopConfig, LoopState, gather_with_grad, train
from polysense.trainer.distributed import on_main, rank, world_size
from polysense.trainer.optimizer import build_optimizer, trainable_parameters
from polysense.trainer.step import StepRunner
from tests.distributed.harness import TOLERANCE, Plain, case, close, gradients, run_ranks, succeeded


class Sparse:
    """A mixture some of whose batches are missing: `missing(slot, index, rank)`; world 1 sees what all ranks see."""

    def __init__(self, mixture: Mixture, missing: Callable[[int, int, int], bool]) -> None:
        self.mixture, self.missing = mixture, missing
        self.slots, self.signature, self.skipped, self.account = (
            mixture.slots,
            mixture.signature,
            mixture.skipped,
            mixture.account,
        )

    def build(self, index: int, rank: int, world: int) -> Sequence[Batch | None]:
        batches = self.mixture.build(index, rank, world)
        return [None if self.missing(slot, index, rank) else batch for slot, batch in enumerate(batches)]


@case
def two_processes_give_the_gradients_of_one_with_the_doubled_batch(folder: Path) -> None:
    for local in (False, True):

        def one_rank(rank: int, local: bool = local) -> Any:
            return gradients(ToyObjective(dropout=0.0, local=local), toy_mixture(4).build(3, rank, 2))

        def doubled(rank: int) -> Any:
            return gradients(ToyObjective(dropout=0.0), toy_mixture(8).build(3, 0, 1))

        (first, loss), (second, _) = succeeded(run_ranks(one_rank))
        expected, expected_loss = succeeded(run_ranks(doubled, world=1))[0]
        close(first, expected)
        close(second, first)
        assert abs(loss - expected_loss) <= TOLERANCE * abs(expected_loss)


@case
def accumulated_micro_batches_average_their_gradients(folder: Path) -> None:
    def gradient(rank: int) -> Any:
        objective, mixture = ToyObjective(dropout=0.0), toy_mixture(4)
        parameters = trainable_parameters(objective.module)
        config = LoopConfig(steps=1, accumulation=2)
        runner = StepRunner(objective, SENSES, parameters, build_optimizer(parameters, config), Plain(), config)
        for micro in range(2):
            runner.accumulate(mixture.build(micro, rank, 2), [[4, 4], [4, 4]])
        runner.reduce()
        each = [gradients(ToyObjective(dropout=0.0), mixture.build(micro, rank, 2))[0] for micro in range(2)]
        return {name: p.grad for name, p in parameters.items()}, each

    together, (first, second) = succeeded(run_ranks(gradient))[0]
    close(together, {name: (first[name] + second[name]) / 2 for name in together})


@case
def five_sgd_steps_of_two_processes_equal_those_of_one(folder: Path) -> None:
    def steps(name: str, batch_size: int) -> Callable[[int], Any]:
        def run(rank: int) -> Any:
            objective = ToyObjective(dropout=0.0)
            config = LoopConfig(steps=5, optimizer="sgd", learning_rate=0.1, weight_decay=0.0)
            result = train(objective, toy_mixture(batch_size), config, folder / name)
            assert result.step == 5
            return {key: value.detach() for key, value in trainable_parameters(objective.module).items()}

        return run

    two = succeeded(run_ranks(steps("two", 4), group=False))
    close(two[1], two[0])
    close(two[0], succeeded(run_ranks(steps("one", 8), world=1, group=False))[0])


@case
def every_pattern_of_absent_modalities_gives_the_gradient_of_the_samples_there_are(folder: Path) -> None:
    patterns = list(itertools.product((False, True), repeat=4))  # absent[modality][rank]

    def two(rank: int) -> Any:
        batches = toy_mixture(4).build(0, rank, 2)
        return [
            gradients(
                ToyObjective(dropout=0.0),
                [None if pattern[2 * slot + rank] else batch for slot, batch in enumerate(batches)],
            )[0]
            for pattern in patterns
        ]

    def one(rank: int) -> Any:
        halves = {place: toy_mixture(4).build(0, place, 2) for place in range(2)}
        return [
            gradients(
                ToyObjective(dropout=0.0),
                [_join([halves[r][slot] for r in range(2) if not pattern[2 * slot + r]]) for slot in range(2)],
            )[0]
            for pattern in patterns
        ]

    first, second = succeeded(run_ranks(two))
    expected = succeeded(run_ranks(one, world=1))[0]
    for mine, other, reference in zip(first, second, expected, strict=True):
        close(mine, reference)
        close(other, reference)


@case
def a_modality_absent_on_one_rank_in_turn_does_not_hang_the_loop(folder: Path) -> None:
    def run(rank: int) -> Any:
        feed = Sparse(toy_mixture(4), lambda slot, index, rank: (index + slot) % 3 == rank)
        return train(ToyObjective(), feed, LoopConfig(steps=12, accumulation=2, log_every=5), folder).step

    assert succeeded(run_ranks(run, group=False)) == [12, 12]


@case
def gathered_rows_of_different_numbers_keep_their_gradients(folder: Path) -> None:
    def gathered(rank: int) -> Any:
        rows = (torch.arange(float(2 * (rank + 1))).reshape(-1, 2) + 10 * rank).requires_grad_()
        everyone = gather_with_grad(rows)
        (everyone * torch.tensor([[1.0], [2.0], [3.0]]) * (rank + 1)).sum().backward()
        labels = gather_with_grad(torch.full((rank + 1,), rank))
        return everyone.detach(), rows.grad, labels

    (first, grad_0, labels), (second, grad_1, _) = succeeded(run_ranks(gathered))
    assert torch.equal(first, torch.tensor([[0.0, 1.0], [10.0, 11.0], [12.0, 13.0]])) and torch.equal(first, second)
    assert torch.equal(grad_0, torch.full((1, 2), 3.0))  # weight 1, times 1 on rank 0 and 2 on rank 1
    assert torch.equal(grad_1, torch.tensor([[6.0, 6.0], [9.0, 9.0]]))
    assert labels.tolist() == [0, 1, 1]


@case
def a_nan_on_one_rank_skips_the_step_on_both(folder: Path) -> None:
    def run(rank: int) -> Any:
        objective = ToyObjective(spoil=lambda modality, batch: rank == 1 and int(objective.module.seen) == 24)
        result = train(objective, toy_mixture(4), LoopConfig(steps=8, log_every=1), folder)
        return result.skipped_steps, [value.detach() for value in trainable_parameters(objective.module).values()]

    (skipped, first), (other, second) = succeeded(run_ranks(run, group=False))
    assert skipped == other == 1, (skipped, other)
    assert all(torch.isfinite(a).all() and torch.equal(a, b) for a, b in zip(first, second, strict=True))
    event = next(line for line in _log(folder) if line["event"] == "skipped")
    assert len(event["samples"]) == 16 and event["samples"][0].startswith("audio-set/audio-")


@case
def a_quota_exceeded_on_one_rank_stops_both(folder: Path) -> None:
    def run(rank: int) -> Any:
        return train(ToyObjective(), toy_mixture(4, broken=range(20) if rank else ()), LoopConfig(steps=30), folder)

    first, second = run_ranks(run, group=False)
    assert isinstance(first, QuotaExceededError) and "another process" in str(first), first
    assert isinstance(second, QuotaExceededError) and "cannot be used" in str(second), second


@case
def a_stop_signal_to_one_rank_saves_and_ends_both(folder: Path) -> None:
    def run(rank: int) -> Any:
        def signal_at_7(state: LoopState) -> None:
            if rank == 1 and state.step == 7:
                os.kill(os.getpid(), signal.SIGTERM)

        train(ToyObjective(), toy_mixture(4), LoopConfig(steps=30), folder, hooks=Hooks(on_step_end=signal_at_7))

    outcomes = run_ranks(run, group=False)
    assert [getattr(outcome, "code", None) for outcome in outcomes] == [143, 143], outcomes
    assert [path.name for path in (folder / "checkpoints").iterdir()] == ["step-00000007"]


@case
def a_disk_error_on_the_main_process_stops_both(folder: Path) -> None:
    class Full(FileSystem):
        def write(self, path: Path, data: bytes) -> None:
            raise OSError(28, "No space left on device")

    def run(rank: int) -> Any:
        return train(ToyObjective(), toy_mixture(4), LoopConfig(steps=4), folder, files=Full())

    outcomes = run_ranks(run, group=False)
    assert all(isinstance(outcome, CheckpointError) and "bytes are needed" in str(outcome) for outcome in outcomes)


@case
def what_the_main_process_returns_or_raises_reaches_all(folder: Path) -> None:
    def run(place: int) -> Any:
        def refuse() -> None:
            raise CheckpointError("it is damaged", where="here")

        answer = on_main(lambda: f"from {rank()} of {world_size()}")
        try:
            on_main(refuse)
        except PolysenseError as error:
            return answer, str(error)

    for group in (True, False):  # also before anything has made the process group
        assert succeeded(run_ranks(run, group=group)) == [("from 0 of 2", "here: it is damaged.")] * 2


def _join(batches: Sequence[Batch]) -> Batch | None:
    """Batches of one slot below one another."""
    if not batches:
        return None
    features = {
        modality: {name: torch.cat([batch.features[modality][name] for batch in batches]) for name in tensors}
        for modality, tensors in batches[0].features.items()
    }
    samples = tuple(sample for batch in batches for sample in batch.samples)
    return Batch(source=batches[0].source, modality=batches[0].modality, samples=samples, features=features)


def _log(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
