"""One writer per run folder."""

from __future__ import annotations

import fcntl
import json
import logging
import os
import socket
from pathlib import Path
from types import TracebackType

from polysense.errors import ConfigError, FolderInUseError

logger = logging.getLogger(__name__)


class FolderLock:
    """Holds `<folder>/.lock` for as long as the block runs.

    The lock is the kernel's (`flock`), so it ends with the process however that ends; the file names the holder's pid
    and host for messages. A file left by a dead process of this host is taken over. One left by another host is not,
    since file systems shared between hosts need not carry the kernel's lock.

    Raises:
        FolderInUseError: on entry, at once, when another process writes to the folder.
        ConfigError: the folder cannot be made or written to.
    """

    def __init__(self, folder: str | Path) -> None:
        self.path = Path(folder) / ".lock"
        self._descriptor = -1

    def __enter__(self) -> FolderLock:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
            try:
                self._acquire(descriptor)
            except BaseException:
                os.close(descriptor)
                raise
        except OSError as error:
            raise ConfigError(
                f"the folder cannot be written to ({error.strerror})",
                where=self.path.parent,
                fix="Choose another one, or make room there.",
            ) from error
        self._descriptor = descriptor
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.ftruncate(self._descriptor, 0)
        os.close(self._descriptor)

    def _acquire(self, descriptor: int) -> None:
        holder, host = self._holder(descriptor), socket.gethostname()
        name = f"process {holder.get('pid')} on {holder.get('host')}" if holder else "another process"
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise FolderInUseError(
                f"{name} is writing to this folder",
                where=self.path.parent,
                fix="Wait for it, stop it, or choose another folder.",
            ) from error
        if holder and holder.get("host") != host:
            raise FolderInUseError(
                f"{name} was writing to this folder and has not said that it ended",
                where=self.path.parent,
                fix=f"If that run is over, delete {self.path} and start again.",
            )
        if holder:
            logger.warning("taking over %s, whose holder (%s) has died", self.path, name)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, json.dumps({"pid": os.getpid(), "host": host}).encode(), 0)

    @staticmethod
    def _holder(descriptor: int) -> dict[str, object]:
        try:
            holder = json.loads(os.pread(descriptor, 4096, 0) or b"{}")
        except ValueError:
            return {"pid": "unknown", "host": socket.gethostname()}
        return holder if isinstance(holder, dict) else {}
