"""Peak memory of a call in a process that has done nothing else, as the system counts it (Linux)."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import ParamSpec, TypeVar

import torch

MIB = 1 << 20
Arguments = ParamSpec("Arguments")
Value = TypeVar("Value")


def growth(call: Callable[[], object]) -> int:
    """Bytes by which the resident set of this process grows at most while `call` runs."""
    torch.ones(64, 64).matmul(torch.ones(64, 64))  # what the first product of a process needs once and for all
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak of what was before
    before = _status("VmRSS")
    call()
    return _status("VmHWM") - before


def in_child(function: Callable[Arguments, Value], *arguments: Arguments.args, **options: Arguments.kwargs) -> Value:
    """What the function returns in a fresh process, with as many threads as this one."""
    threads = torch.get_num_threads()
    with ProcessPoolExecutor(1, get_context("spawn"), torch.set_num_threads, (threads,)) as pool:
        return pool.submit(function, *arguments, **options).result()


def _status(key: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * int(next(line for line in lines if line.startswith(key)).split()[1])
