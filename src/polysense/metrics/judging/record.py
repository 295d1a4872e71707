"""Verdicts on record: a file that a killed run leaves readable, and from which the next run goes on."""

from __future__ import annotations

import errno
import hashlib
import json
import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Self

from polysense.errors import ConfigError
from polysense.metrics.judging.prompt import PROMPT_VERSION
from polysense.metrics.judging.verdicts import Answer, Verdict
from polysense.modality import JsonValue

logger = logging.getLogger(__name__)

_BEGINNING = b'{"key": "'


def verdict_key(settings: Mapping[str, JsonValue], answer: Answer) -> str:
    """SHA-256 of everything that a verdict depends on: who is asked and how, the prompt's version, the three texts.

    Args:
        settings: see `LlmJudge.settings`; JSON.
    """
    parts = [dict(settings), PROMPT_VERSION, answer.question, answer.reference, answer.prediction]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def old_verdict_key(model: str, answer: Answer) -> str:
    """The key of records of the time before endpoint, request and controls were part of it."""
    parts = [model, PROMPT_VERSION, answer.question, answer.reference, answer.prediction]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


class VerdictRecord:
    """Parsed verdicts by key, appended to a JSONL file one line at a time; without a file, for this run only.

    A line that a kill or a full disk cut off is skipped, the others stand. Failures and unparsed replies are never
    recorded. Processes may share a file. Use it as a context manager, or call `close`.

    Args:
        path: made with its folder when the first verdict is recorded.

    Raises:
        ConfigError: the file is there but holds something else, or cannot be read or written.
    """

    def __init__(self, path: str | Path | None = None) -> None:
        self.path = None if path is None else Path(path)
        self._verdicts: dict[str, Verdict] = {}
        self._file: int | None = None
        if self.path is not None and self.path.exists():
            self._read(self.path)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __len__(self) -> int:
        return len(self._verdicts)

    def __contains__(self, key: str) -> bool:
        return key in self._verdicts

    def get(self, key: str) -> Verdict | None:
        return self._verdicts.get(key)

    def put(self, key: str, verdict: Verdict) -> None:
        """Record a verdict; when this returns, a kill of the process cannot lose it."""
        line = {"key": key, "pred": "yes" if verdict.correct else "no", "score": verdict.score}
        if self.path is not None:
            self._append(self.path, json.dumps(line).encode() + b"\n")
        self._verdicts[key] = verdict

    def close(self) -> None:
        """Wait until all is on the disk."""
        if self._file is not None:
            os.fsync(self._file)
            os.close(self._file)
            self._file = None

    def _read(self, path: Path) -> None:
        try:
            lines = path.read_bytes().split(b"\n")
        except OSError as error:
            raise _unusable(path, f"the record of verdicts cannot be read ({error.strerror})") from error
        torn = 0
        for number, line in enumerate(lines, start=1):
            if not line:
                continue
            entry = _parsed(line)
            if entry is not None:
                self._verdicts[entry[0]] = entry[1]
            elif line.startswith(_BEGINNING) or _BEGINNING.startswith(line):
                torn += 1
            else:
                raise _unusable(path, f"line {number} is not a recorded verdict")
        if torn:
            logger.warning("%s: %d lines were cut off while being written and are skipped", path, torn)

    def _append(self, path: Path, line: bytes) -> None:
        try:
            if self._file is None:
                path.parent.mkdir(parents=True, exist_ok=True)
                self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
                size = os.fstat(self._file).st_size
                if size and os.pread(self._file, 1, size - 1) != b"\n":
                    line = b"\n" + line  # the end of a line that was cut off must not swallow this one
            if os.write(self._file, line) != len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError as error:
            raise _unusable(path, f"the verdict cannot be recorded ({error.strerror})") from error


def _parsed(line: bytes) -> tuple[str, Verdict] | None:
    try:
        entry = json.loads(line)
        key, pred, score = entry["key"], entry["pred"], entry["score"]
        correct = {"yes": True, "no": False}[pred]
        return str(key), Verdict(correct, None if score is None else float(score))
    except (ValueError, KeyError, TypeError, RecursionError):
        return None


def _unusable(path: Path, what: str) -> ConfigError:
    return ConfigError(what, where=path, fix="Name another file for the verdicts, or make this one usable.")
