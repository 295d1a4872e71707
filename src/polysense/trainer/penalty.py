"""An objective with penalties: terms of the parameters alone, once in every step whatever it is trained on."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from polysense.trainer.objective import Objective, StatefulObjective


class PenalisedObjective:
    """Adds named penalties to another objective's terms.

    The loop adds up the losses of all batches of a step (one per slot), so each of them carries its share.

    Args:
        objective: scores the batches.
        penalties: name to a function that gives a scalar.
        slots: batches of a micro-step.
    """

    def __init__(self, objective: Objective, penalties: Mapping[str, Callable[[], Tensor]], *, slots: int) -> None:
        self.objective, self.penalties, self.slots = objective, penalties, slots

    @property
    def modalities(self) -> tuple[str, ...]:
        return self.objective.modalities

    @property
    def weights(self) -> Mapping[str, float]:
        return {**self.objective.weights, **dict.fromkeys(self.penalties, 1 / self.slots)}

    @property
    def module(self) -> nn.Module:
        return self.objective.module

    @property
    def whole(self) -> Sequence[str] | None:
        """See `polysense.trainer.sharding`: penalties compare whole parameters."""
        return None if self.penalties else getattr(self.objective, "whole", None)

    def losses(self, modality: str, batch: Any) -> dict[str, Tensor]:
        """The objective's terms and every penalty. Raises: whatever these raise."""
        return {**self.objective.losses(modality, batch), **{name: each() for name, each in self.penalties.items()}}

    def dummy(self, modality: str) -> Tensor:
        return self.objective.dummy(modality)

    def after_step(self, applied: bool) -> None:
        """Handed on to an objective that has state."""
        if isinstance(self.objective, StatefulObjective):
            self.objective.after_step(applied)
