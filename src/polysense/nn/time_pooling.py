"""What goes on over a stretch of time as one vector: how strong, how strong at most, and in which rhythm."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from polysense.errors import ConfigError


class TimePooling(nn.Module):
    """Mean and maximum of a map over parts of its width, which is time, and amplitudes of its course over all of it.

    Amplitudes of the Fourier transform do not depend on when a rhythm begins (the modulation spectrum, Greenberg and
    Kingsbury 1997). They are averaged over the height: the rhythm of a thing is the same at every pitch.

    Args:
        parts: of the width, as equal as can be.
        frequencies: lowest ones, from one period per width on, whose amplitudes are taken; 0 takes none.

    Raises:
        ConfigError: numbers that cannot be used.
    """

    def __init__(self, parts: int = 1, frequencies: int = 0) -> None:
        super().__init__()
        if parts < 1 or frequencies < 0:
            raise ConfigError(f"{parts} parts and {frequencies} frequencies cannot be pooled", where="TimePooling",
                              fix="Give 1 part or more, and 0 frequencies or more.")  # fmt: skip
        self.parts, self.frequencies = parts, frequencies

    def size(self, channels: int, height: int) -> int:
        """Numbers that `forward` makes of a map."""
        return channels * (2 * height * self.parts + self.frequencies)

    def forward(self, maps: Float[Tensor, "batch channels height width"]) -> Float[Tensor, "batch pooled"]:
        pooled = [part for piece in maps.tensor_split(self.parts, dim=-1) for part in (piece.mean(-1), piece.amax(-1))]
        if self.frequencies:
            course = torch.fft.rfft(maps.float(), dim=-1, norm="ortho")[..., 1 : self.frequencies + 1]
            pooled.append(course.abs().mean(dim=2).to(maps.dtype))
        return torch.cat([part.flatten(1) for part in pooled], dim=1)
