"""DARE: drop and rescale (Yu et al., 2024, "Language models are super Mario", section 3.2)."""

from __future__ import annotations

import hashlib

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from polysense.merging.registry import Block, check_finite, check_fraction, check_whole, register_merge_method

_DRAWS_PER_COUNT = 4  # Philox makes four 64-bit numbers of each value of its counter


@register_merge_method("dare")
def dare(
    block: Block, *, density: float = 0.1, scale: float | None = None, seed: int = 0
) -> Float[Tensor, " numbers"]:
    """theta_{i-1} + scale * (m * tau_i) / density, with m drawn from Bernoulli(density).

    The expected result is theta_{i-1} + scale * tau_i: with the default scale, the running average.

    Args:
        block: the states.
        density: share of the update that survives, 1 - p in the paper; it drops 90 % and more.
        scale: weight of the update; None: 1/i.
        seed: of the mask, which also depends on the stage, the tensor's name and each number's place in it, and on
            nothing else: neither on the order of the tensors nor on how they are cut into pieces.

    Raises:
        ConfigError: a share, a factor or a seed that cannot be used.
    """
    check_fraction("density", density)
    check_whole("seed", seed)
    scale = 1 / block.stage if scale is None else scale
    check_finite("scale", scale)
    mask = keep_mask(f"{seed}/{block.stage}/{block.name}", block.start, len(block.previous), density)
    return block.previous + scale * (mask.to(block.update.device) * block.update) / density


def keep_mask(key: str, start: int, count: int, density: float) -> Bool[Tensor, " count"]:
    """Draws `start` to `start + count` of the endless row of coins that belongs to `key`."""
    generator = np.random.Philox(key=int.from_bytes(hashlib.sha256(key.encode()).digest()[:16], "little"))
    ahead, skip = divmod(start, _DRAWS_PER_COUNT)
    coins = np.random.Generator(generator.advance(ahead)).random(skip + count)[skip:]
    return torch.from_numpy(coins < density)
