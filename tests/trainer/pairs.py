"""Batches and objectives on the tiny UniAlign model, shared by the tests of its objective in one and in two processes.

`python -m tests.trainer.pairs` compares two processes with one and prints "equal", or what differs: a process that
forks must not have computed with torch, so this runs outside pytest.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from polysense.data import Batch, Sample
from polysense.models.unialign import UniAlignModel
from polysense.testing import tiny_clip, tiny_senses
from polysense.trainer.config import LoopConfig
from polysense.trainer.distributed import exchange, gather_with_grad
from polysense.trainer.optimizer import build_optimizer
from polysense.trainer.step import StepRunner
from polysense.trainer.unialign import (
    ALIGNMENT_TERMS,
    AlignedBatch,
    ClassTable,
    ObjectiveSettings,
    UniAlignObjective,
)
from tests.distributed.harness import Plain, run_ranks

SENSES = ("depth", "audio")
LABELS = {"depth": ["cup", "box", "cup", "jar"], "audio": ["ring", "ring", "knock", "ring"]}
SHAPES = {"depth": (1, 32, 32), "audio": (1, 1, 32, 32)}


@ALIGNMENT_TERMS.register("centre")
def centre(aligned: AlignedBatch) -> Tensor:
    return gather_with_grad(aligned.embeddings).mean(dim=0).square().sum()


def model() -> UniAlignModel:
    """Depth and audio train; experts are moved off zero, so that every parameter has a gradient."""
    built = UniAlignModel.from_clip(tiny_clip(), [sense for sense in tiny_senses() if sense.name in SENSES])
    generator = torch.Generator().manual_seed(1)
    for name, parameter in built.named_parameters():
        if name.startswith("experts"):
            parameter.data.add_(0.02 * torch.randn(parameter.shape, generator=generator))
    return built


def unit(rows: int, seed: int) -> Tensor:
    vectors = torch.randn(rows, 16, generator=torch.Generator().manual_seed(seed))
    return nn.functional.normalize(vectors, dim=-1)


def objective(
    settings: ObjectiveSettings | None = None, *, text: str = "label", built: UniAlignModel | None = None
) -> UniAlignObjective:
    tables = {
        sense: ClassTable(tuple(sorted(set(LABELS[sense]))), unit(len(set(LABELS[sense])), 7)) for sense in SENSES
    }
    return UniAlignObjective(
        built or model(), modalities=SENSES, tables=tables,
        texts=dict.fromkeys(SENSES, text),  # type: ignore[arg-type]
        encode_text=lambda texts: torch.cat([unit(1, len(each)) for each in texts]),
        settings=settings or ObjectiveSettings(),
    )  # fmt: skip


def batch(
    sense: str, rows: slice = slice(None), labels: Sequence[str | None] | None = None, captions: Sequence[str] = ()
) -> Batch:
    """Rows of the four samples of a sense, with their images."""
    generator = torch.Generator().manual_seed(SENSES.index(sense))
    values = torch.randn(4, *SHAPES[sense], generator=generator)[rows]
    images = torch.randn(4, 3, 32, 32, generator=generator)[rows]
    names = (LABELS[sense] if labels is None else labels)[rows]
    samples = tuple(
        Sample(f"{sense}-{number}", {}, {} if name is None else {sense: name}) for number, name in enumerate(names)
    )
    features = {sense: {f"{sense}_values": values}, "image": {"pixel_values": images}}
    return Batch(source=sense, modality=sense, samples=samples, features=features, captions=tuple(captions))


def gradients(batches: Sequence[Batch]) -> tuple[dict[str, Tensor], float]:
    """Reduced gradients of one step with a further term that compares samples, and its loss."""
    built = objective(ObjectiveSettings(terms={"centre": 1.0}))
    parameters: Mapping[str, nn.Parameter] = {
        name: parameter for name, parameter in built.module.named_parameters() if parameter.requires_grad
    }
    config = LoopConfig(steps=1, optimizer="sgd")
    runner = StepRunner(built, SENSES, parameters, build_optimizer(parameters, config), Plain(), config)
    runner.accumulate(batches, exchange([len(each) for each in batches]))
    loss = runner.reduce()
    return {name: parameter.grad for name, parameter in parameters.items() if parameter.grad is not None}, loss


def half(rank: int) -> Any:
    torch.set_num_threads(1)
    return gradients([batch(sense, slice(2 * rank, 2 * rank + 2)) for sense in SENSES])


def whole(rank: int) -> Any:
    return gradients([batch(sense) for sense in SENSES])


def main() -> None:
    outcomes = [*run_ranks(half), *run_ranks(whole, world=1)]
    for outcome in outcomes:
        if isinstance(outcome, BaseException):
            raise outcome
    (first, loss), (second, _), (expected, expected_loss) = outcomes
    errors = {
        name: float((mine[name] - reference).norm() / reference.norm().clamp_min(1e-12))
        for mine in (first, second)
        for name, reference in expected.items()
    }
    errors["loss"] = abs(loss - expected_loss) / abs(expected_loss)
    wrong = {name: error for name, error in errors.items() if error > 1e-5}
    sys.stdout.write(f"{wrong}\n" if wrong or first.keys() != expected.keys() else f"equal {len(expected)}\n")


if __name__ == "__main__":
    main()
