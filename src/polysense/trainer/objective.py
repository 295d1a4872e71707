"""What the loop drives: an objective that scores batches, and a feed that builds them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from polysense.modality import JsonValue


@runtime_checkable
class TrainingBatch(Protocol):
    """Samples of one modality; `polysense.data.Batch` is one."""

    def __len__(self) -> int: ...

    @property
    def ids(self) -> Sequence[str]:
        """Identifiers that name the samples in the log."""

    @property
    def weight(self) -> float:
        """Factor of its loss in that of a step."""

    def to(self, target: torch.device) -> TrainingBatch: ...


@runtime_checkable
class Feed(Protocol):
    """Where batches come from; `polysense.data.Mixture` is one."""

    @property
    def slots(self) -> tuple[str, ...]:
        """Modality of each batch of a micro-step, in order; the same on every rank."""

    @property
    def signature(self) -> Mapping[str, JsonValue]:
        """What decides which samples a step takes; a resumed run is warned when it differs from its checkpoint's."""

    @property
    def skipped(self) -> Mapping[str, int]:
        """Samples left out so far because they could not be used."""

    def build(self, index: int, rank: int, world: int) -> Sequence[Any | None]:
        """The batches of micro-step `index`, one per slot, `None` where this rank has no sample; pure, any thread."""

    def account(self, batches: Sequence[Any]) -> None:
        """Called with the batches about to be used, in order; may raise to stop the run."""


@runtime_checkable
class Objective(Protocol):
    """A system's training objective: which terms, on which batches, with which weights.

    The gradient of a step is that of the weighted sum of all terms over all modalities. Every term is a *mean over
    samples*: of the rank's own rows, or of the whole batch gathered over the ranks (`gather_with_grad`). Then the
    loop's scaling makes several processes give the gradient of one process with all their samples.
    """

    @property
    def modalities(self) -> tuple[str, ...]:
        """Every modality that may be trained, in the order in which each rank runs them."""

    @property
    def weights(self) -> Mapping[str, float]:
        """Weight of each term by its name; a term that is not listed has weight 1."""

    @property
    def module(self) -> nn.Module:
        """Holds every trained parameter and buffer; its trainable part goes into checkpoints."""

    def losses(self, modality: str, batch: Any) -> dict[str, Tensor]:
        """Named scalar terms of one micro-batch; an empty dict where the batch gives nothing to learn from."""

    def dummy(self, modality: str) -> Tensor:
        """A scalar 0 that depends on the parameters of `modality`, for a rank that has no sample of it."""


@runtime_checkable
class StatefulObjective(Objective, Protocol):
    """An objective with state that a step changes beside the parameters, such as the codes of a codebook.

    `losses` may not change such state itself: a rank without samples does not run it, several micro-batches belong to
    one step, and a step that is not finite must leave nothing behind.
    """

    def after_step(self, applied: bool) -> None:
        """Called on every rank at the end of every optimiser step; all may take part in collectives here.

        Args:
            applied: whether the parameters were updated. If not, what the step has gathered is to be dropped.
        """


def zero_touch(module: nn.Module) -> Tensor:
    """The usual `Objective.dummy`: 0 times the sum of the trainable parameters of `module`."""
    trainable = [parameter for parameter in module.parameters() if parameter.requires_grad]
    return sum((parameter.flatten()[0] * 0 for parameter in trainable), torch.zeros(()))
