"""Scores of video segmentation: region similarity J and contour accuracy F (Perazzi et al., DAVIS, CVPR 2016)."""

from __future__ import annotations

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F

TOLERANCE = 0.008
"""Share of the picture's diagonal by which a contour may be off, as DAVIS and Ref-Youtube-VOS evaluate."""


def region_similarity(
    predicted: Bool[Tensor, "*masks height width"], truth: Bool[Tensor, "*masks height width"]
) -> Float[Tensor, "*masks"]:
    """J of each mask: intersection over union; 1 where both are empty."""
    union = (predicted | truth).sum(dim=(-2, -1))
    shared = (predicted & truth).sum(dim=(-2, -1))
    return torch.where(union == 0, 1.0, shared / union.clamp(min=1))


def contour_accuracy(
    predicted: Bool[Tensor, "*masks height width"],
    truth: Bool[Tensor, "*masks height width"],
    *,
    tolerance: float = TOLERANCE,
) -> Float[Tensor, "*masks"]:
    """F of each mask: the harmonic mean of two shares of contour pixels, those of one mask that lie near the other's.

    Args:
        tolerance: greatest distance that is near, as a share of the diagonal and rounded up to whole pixels; from 1 on
            it is in pixels.

    Returns:
        F; 1 where neither mask has a contour, 0 where only one has.
    """
    diagonal = math.hypot(*predicted.shape[-2:])
    radius = int(tolerance) if tolerance >= 1 else math.ceil(tolerance * diagonal)
    own, other = contours(predicted), contours(truth)
    precision, recall = _share_within(own, _dilated(other, radius)), _share_within(other, _dilated(own, radius))
    score = 2 * precision * recall / (precision + recall).clamp(min=1e-12)
    neither = ~own.any(dim=-1).any(dim=-1) & ~other.any(dim=-1).any(dim=-1)
    return torch.where(neither, 1.0, score)


def contours(masks: Bool[Tensor, "*masks height width"]) -> Bool[Tensor, "*masks height width"]:
    """Pixels that differ from their neighbour to the right, below, or both; the picture's edge is no contour."""
    padded = F.pad(_stacked(masks), (0, 1, 0, 1), mode="replicate")[:, 0].bool()
    here, right, below, across = padded[:, :-1, :-1], padded[:, :-1, 1:], padded[:, 1:, :-1], padded[:, 1:, 1:]
    return ((here ^ right) | (here ^ below) | (here ^ across)).view_as(masks)


def _dilated(lines: Bool[Tensor, "*masks height width"], radius: int) -> Bool[Tensor, "*masks height width"]:
    """Everything at most `radius` pixels from a pixel of `lines`."""
    steps = torch.arange(-radius, radius + 1, device=lines.device)
    disk = (steps[:, None] ** 2 + steps**2 <= radius**2).float()
    near = F.conv2d(_stacked(lines), disk[None, None], padding=radius)
    return (near > 0.5).view_as(lines)


def _share_within(
    lines: Bool[Tensor, "*masks height width"], area: Bool[Tensor, "*masks height width"]
) -> Float[Tensor, "*masks"]:
    return (lines & area).sum(dim=(-2, -1)) / lines.sum(dim=(-2, -1)).clamp(min=1)


def _stacked(masks: Bool[Tensor, "*masks height width"]) -> Float[Tensor, "all 1 height width"]:
    """As convolutions take them."""
    return masks.reshape(-1, 1, *masks.shape[-2:]).float()
