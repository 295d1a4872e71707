"""COMET's encoders and decoders of feature sequences (CMG's Phi, Psi and decoders; method-facts 2.2).

A sequence is `batch time dim`, or `batch time height width dim` where every step is a map. Nothing knows how many
steps there are, and steps have no positions: order reaches the model through the recurrent parts alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias, cast

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from polysense.errors import ConfigError, FeatureShapeError
from polysense.nn.masks import zero_padding

StepMask: TypeAlias = Bool[Tensor, "batch time"] | None


class AttentionBlock(nn.Module):
    """A post-norm transformer layer with ReLU. Made of linear layers only, so that a start by name reaches all."""

    def __init__(self, dim: int, heads: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.rate = heads, dropout
        self.qkv, self.out = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
        self.fc1, self.fc2 = nn.Linear(dim, hidden), nn.Linear(hidden, dim)
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)

    def forward(self, x: Float[Tensor, "batch time dim"], mask: StepMask) -> Float[Tensor, "batch time dim"]:
        query, key, value = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        rate = self.rate if self.training else 0.0
        # a sample without any real step attends to everything: an empty softmax would be NaN
        seen = None if mask is None else (mask | ~mask.any(dim=1, keepdim=True))[:, None, None, :]
        mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=seen, dropout_p=rate)
        x = self.norm1(x + self._drop(self.out(mixed.transpose(1, 2).flatten(2))))
        return cast(Tensor, self.norm2(x + self._drop(self.fc2(self._drop(self.fc1(x).relu())))))

    def _drop(self, x: Tensor) -> Tensor:
        return F.dropout(x, self.rate, self.training) if self.rate else x


class MapPooling(nn.Module):
    """One vector per map: a squeeze-and-excite gate on the channels, then attention over the positions."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        squeezed = max(1, channels // 8)
        self.squeeze, self.excite = nn.Linear(channels, squeezed), nn.Linear(squeezed, channels)
        self.position, self.score = nn.Linear(channels, channels), nn.Linear(channels, 1)

    def forward(self, maps: Float[Tensor, "batch time height width channels"]) -> Float[Tensor, "batch time channels"]:
        cells = maps.flatten(2, 3)
        gate = self.excite(self.squeeze(cells.mean(dim=2)).relu()).sigmoid()
        cells = cells * (1 + gate[:, :, None])
        weights = self.score(self.position(cells).tanh()).softmax(dim=2)
        return cast(Tensor, (weights * cells).sum(dim=2))


class SemanticEncoder(nn.Module):
    """Phi: what all senses share. Maps are pooled, words go through a bi-LSTM first, then come transformer layers.

    Args:
        in_dim: width of the features.
        dim: width of what comes out.
        maps: whether every step is a map.
        recurrent: begin with a bi-LSTM of `layers` layers, as CMG's text does.

    Raises:
        ConfigError: the heads do not divide the width.
    """

    def __init__(
        self, in_dim: int, dim: int, *, layers: int, heads: int, hidden: int, dropout: float, maps: bool,
        recurrent: bool,
    ) -> None:  # fmt: skip
        super().__init__()
        if dim % heads or dim % 2:
            raise ConfigError(f"a width of {dim} with {heads} heads", where="hidden_size",
                              fix="Use an even multiple of the number of heads.")  # fmt: skip
        self.pooling = MapPooling(in_dim) if maps else None
        self.recurrent = nn.LSTM(in_dim, dim // 2, layers, batch_first=True, bidirectional=True) if recurrent else None
        self.project = nn.Linear(dim if recurrent else in_dim, dim)
        self.blocks = nn.ModuleList(AttentionBlock(dim, heads, hidden, dropout) for _ in range(layers))

    def front(self, features: Float[Tensor, "batch time *sizes"], mask: StepMask) -> Float[Tensor, "batch time *out"]:
        """What the specific encoder sees and the decoder gives back: the features, or the bi-LSTM's outputs.

        Padding is zeros from here on, as it enters the bi-LSTM in CMG's release.
        """
        real = zero_padding(features, mask)
        return real if self.recurrent is None else cast(Tensor, self.recurrent(real)[0])

    def forward(self, front: Float[Tensor, "batch time *sizes"], mask: StepMask) -> Float[Tensor, "batch time dim"]:
        """Semantic features of what `front` returned."""
        z = self.project(front if self.pooling is None else self.pooling(front))
        mask = None if mask is None or bool(mask.all()) else mask  # attention without a mask is faster
        for block in self.blocks:
            z = block(z, mask)
        return cast(Tensor, z)


class SpecificEncoder(nn.Module):
    """Psi for vectors: a linear layer with ReLU. Returns the content for the decoder, and a summary per step."""

    def __init__(self, in_dim: int, dim: int) -> None:
        super().__init__()
        self.project = nn.Linear(in_dim, dim)
        self.summary_dim = dim

    def forward(
        self, features: Float[Tensor, "batch time in"]
    ) -> tuple[Float[Tensor, "batch time dim"], Float[Tensor, "batch time dim"]]:
        content = self.project(features).relu()
        return content, content


class Decoder(nn.Module):
    """Features from codes and specific content, both vectors; `FeatureShapeError` if they do not fit."""

    def __init__(self, dim: int, out_dim: int) -> None:
        super().__init__()
        self.code, self.out = nn.Linear(dim, dim), nn.Linear(2 * dim, out_dim)

    def forward(
        self, codes: Float[Tensor, "batch time dim"], content: Float[Tensor, "_batch _time *_sizes"]
    ) -> Float[Tensor, "batch time out"]:
        _check_content(codes, content, (self.code.out_features,))
        return cast(Tensor, self.out(torch.cat([self.code(codes), content], dim=-1)))


class MapSpecificEncoder(nn.Module):
    """Psi for maps: two convolutions that double the channels, one 1x1, one residual block.

    Kernels are 3x3 without padding while the map is large enough, so CMG's 7x7x512 become 3x3x2048 as released, and
    4x4 maps become 2x2.
    """

    def __init__(self, channels: int, grid: Sequence[int]) -> None:
        super().__init__()
        self.kernels = _kernels(grid)
        first, second = self.kernels
        self.conv1 = nn.Conv2d(channels, 2 * channels, first)
        self.conv2 = nn.Conv2d(2 * channels, 4 * channels, second)
        self.mix = nn.Conv2d(4 * channels, 4 * channels, 1)
        self.residual1 = nn.Conv2d(4 * channels, channels, 3, padding=1)
        self.residual2 = nn.Conv2d(channels, 4 * channels, 1)
        self.pooled1, self.pooled2 = nn.Linear(4 * channels, 2 * channels), nn.Linear(2 * channels, channels)
        self.summary_dim = channels

    def forward(
        self, maps: Float[Tensor, "batch time height width channels"]
    ) -> tuple[Float[Tensor, "batch time h w wide"], Float[Tensor, "batch time channels"]]:
        x = maps.flatten(0, 1).movedim(-1, 1)
        x = self.mix(self.conv2(self.conv1(x).relu()).relu())
        x = x + self.residual2(self.residual1(x.relu()).relu())
        summary = self.pooled2(self.pooled1(x.mean(dim=(2, 3))).relu())
        shape = maps.shape[:2]
        return x.movedim(1, -1).unflatten(0, shape), summary.unflatten(0, shape)


class MapDecoder(nn.Module):
    """Maps from codes, repeated over the positions, and specific content: the way back of `MapSpecificEncoder`.

    Raises:
        FeatureShapeError: codes and content do not fit.
    """

    def __init__(self, dim: int, channels: int, grid: Sequence[int]) -> None:
        super().__init__()
        first, second = _kernels(grid)
        self.up1 = nn.ConvTranspose2d(dim + 4 * channels, 2 * channels, second)
        self.up2 = nn.ConvTranspose2d(2 * channels, channels, first)
        height, width = (side - a - b + 2 for side, a, b in zip(grid, first, second, strict=True))
        self.content = (height, width, 4 * channels)

    def forward(
        self, codes: Float[Tensor, "batch time dim"], content: Float[Tensor, "_batch _time *_sizes"]
    ) -> Float[Tensor, "batch time height width channels"]:
        _check_content(codes, content, self.content)
        spread = codes[:, :, None, None].expand(*content.shape[:4], -1)
        x = torch.cat([spread, content], dim=-1).flatten(0, 1).movedim(-1, 1)
        x = self.up2(self.up1(x).relu())
        return cast(Tensor, x.movedim(1, -1).unflatten(0, codes.shape[:2]))


def _check_content(codes: Tensor, content: Tensor, sizes: tuple[int, ...]) -> None:
    if content.shape != (*codes.shape[:2], *sizes):
        raise FeatureShapeError(
            f"codes of shape {tuple(codes.shape)} beside specific content of shape {tuple(content.shape)}, "
            f"where a step has the sizes {sizes}", where="decoder",
            fix="Give the content of the sense that is decoded, and as many samples and steps of both.",
        )  # fmt: skip


def _kernels(grid: Sequence[int]) -> list[tuple[int, int]]:
    """Sizes of the two kernels: 3 along a side that has 3 cells left, else 1."""
    sides, kernels = list(grid), []
    for _ in range(2):
        kernel = [3 if side >= 3 else 1 for side in sides]
        sides = [side - size + 1 for side, size in zip(sides, kernel, strict=True)]
        kernels.append((kernel[0], kernel[1]))
    return kernels
