"""TIES: trim, elect sign, merge (Yadav et al., 2023, "TIES-Merging", section 4.2, Algorithm 1)."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from polysense.errors import ConfigError
from polysense.merging.registry import Block, check_finite, check_fraction, register_merge_method


@register_merge_method("ties", whole_tensors=True, needs_base=True)
def ties(block: Block, *, density: float = 0.2, scale: float = 1.0) -> Float[Tensor, " numbers"]:
    """theta_0 + scale * mean of those task vectors that agree with the elected sign, number by number.

    The two task vectors are the paths theta_{i-1} - theta_0 and theta_{i,vanilla} - theta_0. As in the running
    average the first stands for i-1 stages and the second for one, so they weigh i-1 and 1; at stage 2 this is the
    paper's unweighted algorithm, and with density 1 and no conflict of signs it is the running average.

    Args:
        block: the states.
        density: share of each task vector, per tensor, that survives the trimming; the paper's k is 20 %.
        scale: lambda; 1 is the paper's value where nothing is tuned.

    Raises:
        ConfigError: a share or a factor that cannot be used, or no `base`.

    Limits: trimming needs a whole tensor at once.
    """
    check_fraction("density", density)
    check_finite("scale", scale)
    if block.base is None:
        raise ConfigError("TIES measures task vectors from the model before the first stage", where=block.name,
                          fix="Give it as `base`.")  # fmt: skip
    vectors = torch.stack([trim(state - block.base, density) for state in (block.previous, block.current)])
    weights = vectors.new_tensor([[block.stage - 1], [1]])
    elected = (weights * vectors).sum(dim=0).sign()
    votes = weights * ((vectors.sign() == elected) & (vectors != 0))
    return block.base + scale * (votes * vectors).sum(dim=0) / votes.sum(dim=0).clamp(min=1)


def trim(vector: Float[Tensor, " numbers"], density: float) -> Float[Tensor, " numbers"]:
    """Set all but the largest magnitudes to zero; at least one number stays."""
    kept = max(1, int(density * len(vector)))
    threshold = vector.abs().kthvalue(len(vector) - kept + 1).values
    return vector * (vector.abs() >= threshold)
