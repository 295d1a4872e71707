"""Initial values that depend on a name alone, so that a part starts the same whatever else a model has."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn


@contextmanager
def named_draws(key: str) -> Iterator[None]:
    """Let torch draw numbers that depend on `key` alone; the caller's own are taken up again afterwards."""
    seed = int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "little") >> 1
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


@torch.no_grad()
def start_anew(part: nn.Module, key: str) -> None:
    """Reset `part` and all modules in it with random numbers that depend on `key` alone."""
    with named_draws(key):
        for module in part.modules():
            reset_own(module)


def reset_own(module: nn.Module) -> None:
    """Call `reset_parameters` where the module has one."""
    reset = getattr(module, "reset_parameters", None)
    if callable(reset):
        reset()
