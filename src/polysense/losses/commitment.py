"""Commitment: features stay near their own codes and near their partners' (CMG, section 3.3; method-facts 2.4)."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from polysense.losses.reconstruction import step_error

Partners = Callable[[Tensor, Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]
"""An alignment of `polysense.nn.alignment`: (queries, keys, values, mask) to partners and whether there are any."""


def commitment(
    features: Mapping[str, Float[Tensor, "batch _steps dim"]],
    codes: Mapping[str, Float[Tensor, "batch _steps dim"]],
    masks: Mapping[str, Bool[Tensor, "batch _steps"]],
    *,
    beta: float = 0.25,
    align: Partners | None = None,
) -> Float[Tensor, ""]:
    """Sum over senses of 2 beta |z - sg e|^2 and of beta / (n - 1) |z - sg e'|^2 for each other sense's code e'.

    Args:
        features: sense to continuous features.
        codes: sense to the vectors of its codes; no gradient flows there.
        masks: sense to its real steps.
        beta: 0.25. The two terms are the released code's, twice the paper's for two senses.
        align: finds the other senses' codes for a step; `None` leaves the cross terms out (plain VQ).
    """
    terms = []
    for name, own in features.items():
        terms.append(2 * beta * step_error(own, codes[name].detach(), masks[name]))
        for other in features:
            if other != name and align is not None:
                partner, there = align(own.detach(), features[other].detach(), codes[other].detach(), masks[other])
                terms.append(beta / (len(features) - 1) * step_error(own, partner, masks[name] & there))
    return torch.stack(terms).sum()
