"""Timing of two sides in turn, call by call, in one process."""

from __future__ import annotations

import os
import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

WARM_UPS = 2


@dataclass(frozen=True)
class Row:
    """One comparison; times in milliseconds.

    Attributes:
        ratio: minimum of the peer over minimum of ours.
    """

    name: str
    repeats: int
    peer_min: float
    peer_median: float
    ours_min: float
    ours_median: float
    ratio: float

    def line(self) -> str:
        return (
            f"{self.name}: peer {self.peer_min:.2f} ms (median {self.peer_median:.2f}), "
            f"ours {self.ours_min:.2f} ms (median {self.ours_median:.2f}), {self.ratio:.1f}x"
        )

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def interleaved(name: str, peer: Callable[[], Any], ours: Callable[[], Any], repeats: int) -> Row:
    """Call both sides in turn, after two untimed rounds."""
    times: tuple[list[float], list[float]] = ([], [])
    for repeat in range(-WARM_UPS, repeats):
        for side, call in zip(times, (peer, ours), strict=True):
            begun = time.perf_counter()
            call()
            if repeat >= 0:
                side.append(1000 * (time.perf_counter() - begun))
    theirs, mine = times
    return Row(name, repeats, min(theirs), statistics.median(theirs), min(mine), statistics.median(mine),
               min(theirs) / min(mine))  # fmt: skip


def environment() -> dict[str, Any]:
    """What the times depend on: processor, threads, load and BLAS kernel."""
    models = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    return {
        "python": platform.python_version(),
        "processor": models[0].split(":", 1)[1].strip() if models else platform.processor(),
        "cores": os.cpu_count(),
        "torch_threads": torch.get_num_threads(),
        "load_average": list(os.getloadavg()),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "blas_environment": {k: v for k, v in os.environ.items() if k.startswith(("OPENBLAS_", "MKL_", "OMP_"))},
    }
