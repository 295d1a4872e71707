"""Task arithmetic (Ilharco et al., 2023, "Editing models with task arithmetic", section 2)."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from polysense.merging.registry import Block, check_finite, register_merge_method

_SCALE = 0.4  # what the TIES paper takes for it where nothing is tuned


@register_merge_method("task_arithmetic", counts=lambda stage, scale=_SCALE: scale)
def task_arithmetic(block: Block, *, scale: float = _SCALE) -> Float[Tensor, " numbers"]:
    """theta_0 + scale * sum_i tau_i, one stage at a time: theta_{i-1} + scale * tau_i.

    tau_i is what stage i changed. The running average differs in one point: there the scale is 1/i.

    Args:
        block: the states.
        scale: lambda, the same for every stage after the first.
    """
    check_finite("scale", scale)
    return block.previous + scale * block.update
