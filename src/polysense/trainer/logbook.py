"""The log of a run: one JSON object per line in `log.jsonl`, and a progress bar. Only the main process writes.

Steps since the last checkpoint are run and logged again after a kill: the later line of a step is the one that counts.
"""

from __future__ import annotations

import errno
import json
import logging
import math
import os
import time
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

from tqdm.auto import tqdm

from polysense.modality import JsonValue

logger = logging.getLogger(__name__)


class Logbook:
    """Lines and bar of one call of `train`; a line torn off by a kill is removed before new ones follow."""

    def __init__(self, path: Path, *, first: int, steps: int, active: bool) -> None:
        self._file: BinaryIO | None = None
        self._bar: tqdm[Any] = tqdm(total=steps, initial=first, desc=path.parent.name, unit="step", disable=not active)
        self._since = time.monotonic()
        if active:
            path.parent.mkdir(parents=True, exist_ok=True)
            _drop_torn_line(path)
            self._file = path.open("ab", buffering=0)

    def __enter__(self) -> Logbook:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.close()
        if self._file is not None:
            self._file.close()

    def write(self, event: str, step: int, **values: JsonValue) -> None:
        """Append one line; numbers that JSON cannot hold become text. A full disk costs the line, not the run."""
        if self._file is None:
            return
        line = json.dumps(_finite({"event": event, "step": step, **values}), ensure_ascii=False, allow_nan=False)
        end, data = self._file.seek(0, os.SEEK_END), line.encode() + b"\n"
        try:
            if self._file.write(data) != len(data):  # so much there was room for
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError as error:
            self._file.truncate(end)
            logger.warning("a line of the log could not be written (%s): %s", error.strerror, line)

    def advance(self, loss: float) -> None:
        """One more step in the progress bar."""
        self._bar.set_postfix(loss=f"{loss:.4f}", refresh=False)
        self._bar.update()

    def seconds(self) -> float:
        """Seconds since the last call, or since the start."""
        now, since = time.monotonic(), self._since
        self._since = now
        return now - since


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(entry) for entry in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def _drop_torn_line(path: Path) -> None:
    if path.exists() and not (text := path.read_bytes()).endswith(b"\n"):
        with path.open("r+b") as file:
            file.truncate(text.rfind(b"\n") + 1)
