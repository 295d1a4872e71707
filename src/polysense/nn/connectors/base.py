"""Connectors: tokens of a frozen encoder to tokens of a language model (MERA, section 3; method-facts 4.1).

A kind of connector is one class in one file and one registration. Every sense of a model has a connector of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from polysense.errors import ConfigError
from polysense.nn.starts import reset_own

TokenMask = Bool[Tensor, "batch tokens"]
"""True where a token is real; the real tokens of an item come first."""

_CONNECTORS: dict[str, type[Connector]] = {}
_MAX_WIDTH = 65_536


class Connector(nn.Module):
    """Base of all connectors; a subclass defines `forward` and, where it changes the number of tokens, `out_tokens`.

    The number of output tokens must be a constant, or proportional to the number of input tokens, so that a processor
    can count placeholders without the model.

    Args:
        in_dim: width of the encoder's tokens.
        out_dim: width of the language model.
    """

    def __init__(self, in_dim: int, out_dim: int) -> None:
        super().__init__()
        check_sizes(in_dim=in_dim, out_dim=out_dim)
        self.in_dim, self.out_dim = in_dim, out_dim

    def out_tokens(self, tokens: int) -> int:
        """Number of tokens that come out for an item of `tokens` real ones: as many, unless a subclass differs."""
        return tokens

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Initial values: torch's own, unless a subclass differs."""
        for module in self.modules():
            if module is not self:
                reset_own(module)

    def forward(
        self, tokens: Float[Tensor, "batch tokens in_dim"], mask: TokenMask | None = None
    ) -> Float[Tensor, "batch out_tokens out_dim"]:
        """The first `out_tokens(n)` outputs of an item with `n` real tokens are real."""
        raise ConfigError(f"{type(self).__name__} does not define forward", fix="Define it.")


def check_sizes(*, limit: int = _MAX_WIDTH, **sizes: Any) -> None:
    """Refuse sizes that no connector has: they may come from a stranger's config.

    Raises:
        ConfigError: names the size.
    """
    for name, value in sizes.items():
        if type(value) is not int or not 1 <= value <= limit:
            raise ConfigError(f"{name} of a connector is {value!r}", fix=f"Use a whole number from 1 to {limit}.")


def register_connector(kind: str) -> Callable[[type[Connector]], type[Connector]]:
    """Class decorator that makes a connector available under the name `kind`.

    Raises:
        ConfigError: the name is taken by another class.
    """

    def register(connector: type[Connector]) -> type[Connector]:
        if _CONNECTORS.setdefault(kind, connector) is not connector:
            raise ConfigError(f"connector kind {kind!r} is already registered", fix="Choose another name.")
        return connector

    return register


def build_connector(kind: str, in_dim: int, out_dim: int, **options: Any) -> Connector:
    """A connector of a registered kind.

    Raises:
        ConfigError: unknown kind, or options that the kind does not have or cannot use.
    """
    if kind not in _CONNECTORS:
        raise ConfigError(
            f"there is no connector kind {kind!r}",
            fix=f"Known kinds: {', '.join(_CONNECTORS)}; of another, import the module that calls "
            f"register_connector({kind!r}) first: recipes and commands take its name as imports.",
        )
    try:
        return _CONNECTORS[kind](in_dim, out_dim, **options)
    except ConfigError:
        raise
    except (TypeError, ValueError, RuntimeError) as error:
        raise ConfigError(f"connector options {options} do not fit kind {kind!r} ({error})",
                          fix=f"See the arguments of {_CONNECTORS[kind].__name__}.") from error  # fmt: skip


def connector_kinds() -> tuple[str, ...]:
    """Registered kinds, in order of registration."""
    return tuple(_CONNECTORS)


def connector_options(connector: str | Mapping[str, Any]) -> dict[str, Any]:
    """A connector's kind and options as one dictionary, from a kind's name or such a dictionary.

    Raises:
        ConfigError: no kind in it.
    """
    options = {"kind": connector} if isinstance(connector, str) else dict(connector)
    if not isinstance(options.get("kind"), str):
        raise ConfigError(f"the connector {options} has no kind", fix=f"Give one of {', '.join(_CONNECTORS)}.")
    return options
