"""Activation checkpointing: memory of the forward pass against a second one (Chen et al. 2016)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

from polysense.errors import ConfigError


@contextmanager
def recomputed(module: nn.Module, wanted: bool) -> Iterator[None]:
    """Within the block, blocks of layers that train keep their inputs alone and compute the rest again when needed.

    Args:
        module: a model of transformers.
        wanted: whether to do anything.

    Raises:
        ConfigError: the module knows nothing of it.
    """
    if not wanted:
        yield
        return
    enable, disable = (getattr(module, f"activation_checkpointing_{way}", None) for way in ("enable", "disable"))
    if enable is None or disable is None:
        raise ConfigError(f"{type(module).__name__} has no activation checkpointing",
                          where="loop: activation_checkpointing", fix="Train it without.")  # fmt: skip
    enable()
    try:
        yield
    finally:
        disable()
