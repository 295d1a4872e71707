"""Training of a small head on code sequences that fit into memory, with a look at it after every epoch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor, nn
from tqdm.auto import tqdm

from polysense.data import keyed_rng
from polysense.errors import ConfigError, QuotaExceededError


@dataclass(frozen=True, kw_only=True)
class HeadSettings:
    """How a head is trained; the defaults are CMG's on AVE (method-facts 2.8, 2.9).

    Attributes:
        epochs: how often the samples are gone through; CMG takes 50 on AVVP.
        batch_size: samples a step.
        learning_rate: Adam's.
        milestones, decay: epochs after which the learning rate is multiplied, and by what.
        max_grad_norm: at which gradients are clipped.

    Raises:
        ConfigError: no epoch, or batches without samples.
    """

    epochs: int = 30
    batch_size: int = 80
    learning_rate: float = 4.0e-4
    milestones: Sequence[int] = (10, 20, 30)
    decay: float = 0.5
    max_grad_norm: float = 0.5

    def __post_init__(self) -> None:
        if self.epochs < 1 or self.batch_size < 1:
            raise ConfigError(f"{self.epochs} epochs of batches of {self.batch_size}", where="head",
                              fix="Give positive numbers.")  # fmt: skip


def train_head(
    part: nn.Module,
    loss: Callable[[Int[Tensor, " rows"]], Tensor],
    count: int,
    settings: HeadSettings,
    *,
    key: str,
    after_epoch: Callable[[], None],
) -> None:
    """Train every parameter of `part` that requires a gradient.

    Args:
        part: the head, and whatever else learns with it; in training mode while a step is taken, else in evaluation
            mode.
        loss: numbers of the samples of a step to the loss.
        count: number of samples.
        key: what the order of the samples depends on: equal keys give equal orders.
        after_epoch: called after each epoch, without gradients.

    Raises:
        QuotaExceededError: the loss is not finite.
    """
    device = next(part.parameters()).device
    parameters = [parameter for parameter in part.parameters() if parameter.requires_grad]
    optimizer = torch.optim.Adam(parameters, lr=settings.learning_rate)
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, list(settings.milestones), settings.decay)
    for epoch in tqdm(range(settings.epochs), desc=f"head {key}", delay=2, leave=False):
        part.train()
        order = torch.from_numpy(keyed_rng("head", key, epoch).permutation(count)).to(device)
        for rows in order.split(settings.batch_size):
            value = loss(rows)
            if not bool(value.isfinite()):
                raise QuotaExceededError("the loss of the head is not finite", where=f"head {key}, epoch {epoch + 1}",
                                         fix="Lower the learning rate, and look at the features.")  # fmt: skip
            optimizer.zero_grad(set_to_none=True)
            value.backward()
            nn.utils.clip_grad_norm_(parameters, settings.max_grad_norm)
            optimizer.step()
        schedule.step()
        part.eval()
        with torch.no_grad():
            after_epoch()
