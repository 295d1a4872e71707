"""How many tokens one item of a sense becomes, and the pooling that comes before."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self, cast

from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from polysense.errors import ConfigError
from polysense.nn.connectors import Connector
from polysense.outputs import EncodedTokens
from polysense.protocols import TokenSpec


@dataclass(frozen=True, kw_only=True)
class TokenLayout:
    """Tokens of an item as a function of its time steps; it travels with the processor, which has no model.

    Attributes:
        per_step: tokens per encoded time step, or the number for any item where `fixed`.
        fixed: whether an item has as many tokens however long it is (a Q-Former's queries).
        frames_per_step: time steps of the features that share an encoded one.

    Raises:
        ConfigError: a number that is not a positive integer.
    """

    per_step: int
    fixed: bool = False
    frames_per_step: int = 1

    def __post_init__(self) -> None:
        sizes = (self.per_step, self.frames_per_step)
        if not isinstance(self.fixed, bool) or any(type(size) is not int or size < 1 for size in sizes):
            raise ConfigError(f"{self} counts no tokens", fix="Use the layout that the model gives.")

    def count(self, steps: int) -> int:
        """Tokens of an item of `steps` real time steps."""
        return self.per_step if self.fixed else self.per_step * -(-steps // self.frames_per_step)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Rebuild a layout from a processor's file.

        Raises:
            ConfigError: keys or values that it does not have.
        """
        try:
            return cls(**values)
        except TypeError as error:
            raise ConfigError(f"{dict(values)} is no token layout ({error})",
                              fix="Use the processor that was saved with the model.") from error  # fmt: skip


def token_layout(spec: TokenSpec, connector: Connector, pool: int, *, where: str) -> TokenLayout:
    """The layout of a sense.

    Raises:
        ConfigError: pooling tokens without a raster, or a connector whose number of tokens is neither constant nor
            proportional.
    """
    height, width = spec.grid[1:]
    if pool > 1 and min(height, width) < 2:
        raise ConfigError(f"tokens of a {height} x {width} grid cannot be pooled", where=where, fix="Use pool=1.")
    space = -(-height // pool) * -(-width // pool)
    one, two = connector.out_tokens(space), connector.out_tokens(2 * space)
    if one not in (two, two - one) or one < 1:
        raise ConfigError(f"the connector makes {one} tokens of one time step and {two} of two", where=where,
                          fix="Use a connector whose number of tokens is constant or proportional.")  # fmt: skip
    return TokenLayout(per_step=one, fixed=one == two, frames_per_step=spec.frames_per_step)


def pooled_grid(encoded: EncodedTokens, pool: int) -> EncodedTokens:
    """Tokens whose space grid is `pool` times smaller along both sides, by bilinear interpolation.

    With `pool=2` and even sides every token is the mean of a square of four, as MERA has it for video (appendix B).
    """
    if pool == 1 or encoded.tokens is None or encoded.grid is None:
        return encoded
    time, height, width = encoded.grid
    size = (-(-height // pool), -(-width // pool))
    tokens = _resized(encoded.tokens, (height, width), size)
    return EncodedTokens(tokens=tokens, mask=encoded.mask, grid=(time, *size), pooled=encoded.pooled)


def _resized(
    tokens: Float[Tensor, "batch time space dim"], grid: tuple[int, int], size: tuple[int, int]
) -> Float[Tensor, "batch time smaller dim"]:
    pictures = tokens.flatten(0, 1).transpose(1, 2).unflatten(2, grid)
    smaller = F.interpolate(pictures, size=size, mode="bilinear", align_corners=False)
    return cast(Tensor, smaller.flatten(2).transpose(1, 2).unflatten(0, tokens.shape[:2]))
