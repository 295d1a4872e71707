"""Processes wait for one another, and no longer."""

from __future__ import annotations

import multiprocessing
import time
from pathlib import Path
from typing import Any

from polysense.recipes.turns import taking_turns


def _hold(folder: Path, entered: Any) -> None:
    with taking_turns(folder):
        entered.put(time.monotonic())
        time.sleep(0.4)
        entered.put(time.monotonic())


def test_two_processes_take_turns_at_a_first_stage(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    entered = context.Queue()
    both = [context.Process(target=_hold, args=(tmp_path, entered)) for _ in range(2)]
    for process in both:
        process.start()
    times = [entered.get(timeout=60) for _ in range(4)]
    for process in both:
        process.join()
    assert times == sorted(times), "one leaves before the other enters"
