"""One optimiser step: every modality forward and backward, one reduction, one update."""

from __future__ import annotations

import logging
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from polysense.errors import ConfigError
from polysense.trainer.config import LoopConfig
from polysense.trainer.distributed import attendance, mean_ranks, rank, world_size
from polysense.trainer.objective import Objective, StatefulObjective
from polysense.trainer.optimizer import set_learning_rate
from polysense.trainer.sharding import is_sharded, whole_value

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class StepReport:
    """What happened in a step.

    Attributes:
        applied: whether the parameters were updated; not when the loss or a gradient was not finite.
        loss: weighted sum of all terms over all modalities, averaged over ranks.
        grad_norm: norm of the reduced gradient before clipping.
        samples: samples of all ranks and micro-batches.
    """

    applied: bool
    loss: float
    grad_norm: float
    samples: int


class StepRunner:
    """Forward, backward, reduction and update.

    Scaling: a term is a mean over samples. A rank with n of N samples of a slot scales its loss by n * world / N, and
    gradients are averaged over the ranks; equal batches have factor 1. With gathers that sum gradients over the ranks
    (`gather_with_grad`) the result is the gradient of one process that holds all N samples.
    """

    def __init__(
        self,
        objective: Objective,
        slots: Sequence[str],
        parameters: Mapping[str, nn.Parameter],
        optimizer: torch.optim.Optimizer,
        accelerator: Any,
        config: LoopConfig,
    ) -> None:
        self.objective, self.slots, self.accelerator, self.config = objective, tuple(slots), accelerator, config
        self.parameters, self.optimizer = list(parameters.values()), optimizer
        self._sharded = any(map(is_sharded, self.parameters))
        # Every rank must run the modalities in one order, whatever the order of its sources.
        self._order = sorted(range(len(slots)), key=lambda slot: objective.modalities.index(slots[slot]))
        self._loss, self._samples = torch.zeros(()), 0
        self._terms: dict[str, list[tuple[Tensor, int]]] = defaultdict(list)

    def accumulate(self, batches: Sequence[Any | None], counts: Sequence[Sequence[int]]) -> None:
        """Add one micro-step's gradients, modality by modality.

        Args:
            batches: one per slot, `None` where this rank has no sample.
            counts: for every rank, the samples per slot; the same on all ranks.

        Raises:
            ConfigError: a rank of a sharded module has no sample of a slot.
        """
        for slot in self._order:
            rows = [count[slot] for count in counts]
            self._samples += sum(rows)
            if not any(rows):
                continue
            if self._sharded and not all(rows):
                raise ConfigError(f"a process has no sample of {self.slots[slot]} in a step, and all are to run "
                                  "a sharded module", where="FSDP", fix="Launch it without --use_fsdp.")  # fmt: skip
            with attendance([row > 0 for row in rows]) as present:
                if present:
                    share = rows[rank()] * world_size() / sum(rows) / self.config.accumulation
                    self._backward(self.slots[slot], batches[slot], share)
                else:
                    self.accelerator.backward(self.objective.dummy(self.slots[slot]))

    def _backward(self, modality: str, batch: Any, share: float) -> None:
        batch = batch.to(self.accelerator.device)
        half = self.config.mixed_precision == "bf16"
        with torch.autocast(self.accelerator.device.type, torch.bfloat16, enabled=half):
            terms = self.objective.losses(modality, batch)
        weighted = [value.float() * self.objective.weights.get(name, 1.0) for name, value in terms.items()]
        for name, value in terms.items():
            self._terms[f"{modality}/{name}"].append((value.detach(), len(batch)))
        if weighted:
            total = torch.stack(weighted).sum() * (share * batch.weight)
            self._loss = self._loss + total.detach().to(self._loss.device)
            self.accelerator.backward(total)

    def finish(self, step: int) -> StepReport:
        """Reduce over the ranks and update the parameters, or leave them if anything is not finite on any rank."""
        loss = self.reduce()
        limit = self.config.max_grad_norm or math.inf
        with_grad = [parameter for parameter in self.parameters if parameter.grad is not None]
        norm = float(whole_value(nn.utils.clip_grad_norm_(with_grad, limit))) if with_grad else 0.0
        applied = math.isfinite(loss) and math.isfinite(norm)
        if applied:
            set_learning_rate(self.optimizer, self.config.learning_rate_at(step))
            self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        if isinstance(self.objective, StatefulObjective):
            self.objective.after_step(applied)
        report = StepReport(applied, loss, norm, self._samples)
        self._loss, self._samples = torch.zeros(()), 0
        return report

    def take_terms(self) -> dict[str, tuple[float, int]]:
        """Sum over samples, and samples, of each term of this rank since the last call."""
        terms = {
            name: (sum(float(value) * count for value, count in entries), sum(count for _, count in entries))
            for name, entries in self._terms.items()
        }
        self._terms.clear()
        return terms

    def reduce(self) -> float:
        """Average the gradients over the ranks in one transfer, which also carries the loss.

        A parameter that no rank has touched keeps no gradient, so the optimiser leaves it alone, as on one process.
        Gradients of a sharded module were averaged in the backward pass.
        """
        if world_size() == 1:
            return float(self._loss)
        parameters = [] if self._sharded else self.parameters
        grads = [parameter.grad for parameter in parameters]
        pieces = [
            torch.zeros(parameter.numel(), device=parameter.device) if grad is None else grad.flatten().float()
            for parameter, grad in zip(parameters, grads, strict=True)
        ]
        device = self.parameters[0].device
        touched = torch.tensor([grad is not None for grad in grads], dtype=torch.float32, device=device)
        flat = mean_ranks(torch.cat([*pieces, touched, self._loss.to(touched.device).reshape(1)]))
        *means, touched, loss = flat.split([piece.numel() for piece in pieces] + [len(grads), 1])
        for parameter, mean, count in zip(parameters, means, touched.tolist(), strict=True):
            parameter.grad = mean.view_as(parameter).to(parameter.device, parameter.dtype) if count else None
        return float(loss)
