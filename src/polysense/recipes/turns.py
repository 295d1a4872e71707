"""Turns of processes at work that each of them needs done and only one has to do."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from polysense.errors import FolderInUseError
from polysense.trainer.lock import FolderLock

logger = logging.getLogger(__name__)

_TURN_SECONDS = 0.5


@contextmanager
def taking_turns(folder: Path) -> Iterator[None]:
    """Within this block no other process is in that of the same folder; it waits for its turn."""
    with ExitStack() as stack:
        told = False
        while True:
            try:
                stack.enter_context(FolderLock(folder))
                break
            except FolderInUseError as error:
                if not told:
                    logger.info("waiting: %s", error)
                told = True
                time.sleep(_TURN_SECONDS)
        yield


__all__ = ["taking_turns"]
