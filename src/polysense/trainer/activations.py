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
    # transformers is renaming these: the newer names are not in its older versions, the older ones warn in the newer
    names = ("activation_checkpointing", "gradient_checkpointing")
    name = next((each for each in names if hasattr(module, f"{each}_enable")), None)
    if name is None:
        raise ConfigError(f"{type(module).__name__} has no activation checkpointing",
                          where="loop: activation_checkpointing", fix="Train it without.")  # fmt: skip
    getattr(module, f"{name}_enable")()
    try:
        yield
    finally:
        getattr(module, f"{name}_disable")()
