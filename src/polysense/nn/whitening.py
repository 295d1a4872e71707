"""Whitening: features without a mean, equally wide in all directions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import torch
from jaxtyping import Float
from torch import Tensor

from polysense.errors import ConfigError, FeatureShapeError


@dataclass(frozen=True)
class Whitening:
    """PCA whitening, which the features of VGGish are published with.

    A net that learned without labels spends most of its width on few directions and on a mean. Cross-CPC compares
    plain dot products, in which those drown all others. What is stretched is decided once, by what the net learned
    from: by a first stage alone, words that come later would be stretched out of all proportion.

    Attributes:
        mean: of the features.
        matrix: directions of the features' covariance, each over the root of its variance.
    """

    mean: Float[Tensor, " dim"]
    matrix: Float[Tensor, "dim dim"]

    @classmethod
    def of(cls, vectors: Float[Tensor, "vectors dim"], floor: float) -> Self:
        """The whitening of these features.

        Args:
            floor: share of the largest variance below which a direction is not stretched any further: it is noise.

        Raises:
            ConfigError: a floor that is no share.
            FeatureShapeError: features that are all the same.
        """
        if not 0 < floor <= 1:
            raise ConfigError(f"a floor of {floor} of the largest variance", where="whitening",
                              fix="Give a share above 0, at most 1.")  # fmt: skip
        exact = vectors.double()
        mean = exact.mean(dim=0)
        centred = exact - mean
        variances, directions = torch.linalg.eigh(centred.t() @ centred / len(exact))
        if not variances[-1] > 0:
            raise FeatureShapeError("all features are the same", where="whitening", fix="Check how they are made.")
        scales = variances.clamp_min(floor * variances[-1]).rsqrt()
        return cls(mean.to(vectors.dtype), (directions * scales).to(vectors.dtype))

    def __call__(self, features: Float[Tensor, "*steps dim"]) -> Float[Tensor, "*steps dim"]:
        """(x - mean) U diag(1 / sqrt(variances)).

        Raises:
            FeatureShapeError: features of another width.
        """
        if features.shape[-1] != len(self.mean):
            raise FeatureShapeError(f"features of width {features.shape[-1]}, where {len(self.mean)} are whitened",
                                    where="whitening", fix="Use the whitening of their own net.")  # fmt: skip
        return (features - self.mean) @ self.matrix


__all__ = ["Whitening"]
