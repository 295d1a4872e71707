"""Spherical linear interpolation (Shoemake, 1985, "Animating rotation with quaternion curves")."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor
from torch.linalg import vector_norm

from polysense.merging.registry import Block, check_fraction, register_merge_method

_NEARLY_PARALLEL = 1e-4  # sine of the angle; the two interpolations differ by its square, less than float32 resolves


@register_merge_method("slerp", whole_tensors=True)
def slerp(block: Block, *, weight: float | None = None) -> Float[Tensor, " numbers"]:
    """sin((1-t) w) / sin(w) theta_{i-1} + sin(t w) / sin(w) theta_i, w being the angle between the two tensors.

    Unlike an average it does not shorten: where both have the same norm, so has the result. Nearly parallel tensors,
    opposite ones and zeros have no such arc, and are interpolated along the straight line.

    Args:
        block: the states.
        weight: t, share of the way from theta_{i-1} to theta_i; None: 1/i, as in the running average.

    Limits: the angle needs a whole tensor at once.
    """
    weight = 1 / block.stage if weight is None else weight
    check_fraction("weight", weight)
    angle = angle_between(block.previous, block.current)
    if not angle.sin() > _NEARLY_PARALLEL:
        return block.previous + weight * block.update
    near, far = (((1 - weight) * angle).sin() / angle.sin(), (weight * angle).sin() / angle.sin())
    return near.to(block.previous) * block.previous + far.to(block.previous) * block.current


def angle_between(first: Float[Tensor, " numbers"], second: Float[Tensor, " numbers"]) -> Float[Tensor, ""]:
    """Angle in radians, float64; NaN where a vector is zero.

    By Kahan's formula 2 atan2(|u - v|, |u + v|) of the unit vectors: the arc cosine of a product of two fine-tuned
    copies, whose cosine is all but 1, would lose half of the digits.
    """
    u, v = (vector / vector_norm(vector, dtype=torch.float64).to(vector) for vector in (first, second))
    return 2 * torch.atan2(vector_norm(u - v, dtype=torch.float64), vector_norm(u + v, dtype=torch.float64))
