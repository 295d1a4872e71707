"""Loss of a predicted mask: binary cross-entropy and dice, so that small objects count as much as large ones."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F


def dice(logits: Float[Tensor, "batch height width"], masks: Float[Tensor, "batch height width"]) -> Float[Tensor, ""]:
    """1 - (2 |p m| + 1) / (|p| + |m| + 1), mean of the masks (Milletari et al., V-Net, 3DV 2016; ReferFormer)."""
    shares = logits.sigmoid().flatten(1)
    truth = masks.flatten(1)
    overlap = (2 * (shares * truth).sum(dim=1) + 1) / (shares.sum(dim=1) + truth.sum(dim=1) + 1)
    return 1 - overlap.mean()


def mask_loss(
    logits: Float[Tensor, "batch height width"], masks: Float[Tensor, "batch height width"]
) -> Float[Tensor, ""]:
    """Binary cross-entropy of the pixels plus `dice`.

    Args:
        masks: 1 on the object, 0 elsewhere.
    """
    return F.binary_cross_entropy_with_logits(logits, masks) + dice(logits, masks)
