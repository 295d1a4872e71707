"""Mean squared error over real steps (CMG, L_recon; method-facts 2.2)."""

from __future__ import annotations

from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F

from polysense.losses.precision import at_least_single


def step_error(
    values: Float[Tensor, "batch steps *dims"],
    target: Float[Tensor, "batch steps *dims"],
    mask: Bool[Tensor, "batch steps"] | None = None,
) -> Float[Tensor, ""]:
    """Squared difference, averaged over the numbers of a sample's real steps and then over samples.

    With sequences of one length this is the plain mean over all numbers. A sample without a real step counts as zero.
    """
    squares = F.mse_loss(at_least_single(values), at_least_single(target), reduction="none")
    by_step = squares.flatten(2).mean(dim=2)
    if mask is None:
        return by_step.mean()
    weights = mask.to(by_step.dtype)
    return ((by_step * weights).sum(dim=1) / weights.sum(dim=1).clamp(min=1)).mean()
