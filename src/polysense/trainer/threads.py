"""Who may use which cores while batches are built ahead."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def sharing_cores(loader_workers: int, device: torch.device) -> Iterator[None]:
    """On a CPU, compute with so few threads that every loader thread has a core, but with one at least.

    The threads of one operation wait for each other spinning: with as many as cores, each one that a loader thread
    holds up stops all of them (measured on two cores: eight times slower).
    """
    before = torch.get_num_threads()
    if device.type == "cpu":
        torch.set_num_threads(max(1, before - loader_workers))
    try:
        yield
    finally:
        torch.set_num_threads(before)
