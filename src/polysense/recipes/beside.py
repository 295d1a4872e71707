"""Work that a run asks for later, done by a process beside it: on two cores it costs the run no time."""

from __future__ import annotations

import logging
import multiprocessing
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Protocol

import torch

logger = logging.getLogger(__name__)

_POLL_SECONDS = 0.05


class Wait(Protocol):
    """Returns once a file is there, or no more work is under way; whoever asked then does it himself."""

    def __call__(self, path: Path | None = None) -> None: ...


@contextmanager
def beside(work: Callable[[], object], log: Path) -> Iterator[Wait]:
    """Let a process of its own do `work` until the block ends.

    Args:
        work: a module-level function or a partial of one, since it travels to another process. It writes files whole
            or not at all.
        log: gets its progress bars and messages, and the error if it fails.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    process = multiprocessing.get_context("spawn").Process(target=_work, args=(work, log), daemon=True)
    process.start()

    def wait(path: Path | None = None) -> None:
        while process.is_alive() and not (path is not None and path.exists()):
            time.sleep(_POLL_SECONDS)
        if process.exitcode:
            logger.warning("the process beside this one failed, see %s; its work is done here", log)

    try:
        yield wait
    finally:
        process.terminate()
        process.join()


def end_with_parent() -> None:
    """End this process when the one that started it ends, however that happens: an orphan would work for nobody."""
    if (parent := multiprocessing.parent_process()) is not None:
        threading.Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent: BaseProcess) -> None:
    parent.join()
    os._exit(1)


def _work(work: Callable[[], object], log: Path) -> None:
    end_with_parent()
    torch.set_num_threads(1)  # the run beside which this works has the other cores
    with log.open("a", encoding="utf-8") as out:
        sys.stdout = sys.stderr = out
        logging.basicConfig(stream=out, level=logging.INFO)
        try:
            work()
        except Exception:
            logger.exception("the work was not done")
            raise


__all__ = ["Wait", "beside", "end_with_parent"]
