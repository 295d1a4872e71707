"""Checkpoints named on the command line: a folder, or owner/name on the Hub."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from polysense.errors import ConfigError


@contextmanager
def loading(name: str | Path) -> Iterator[None]:
    """`polysense.models.base.reading`, without transformers' progress bars."""
    from transformers.utils import logging as transformers_logging  # which --help does not need

    from polysense.models.base import reading

    transformers_logging.disable_progress_bar()
    with reading(name):
        yield


def fetched(name: str | Path, revision: str | None = None) -> Path:
    """The local folder of a checkpoint, after a look at whether it is safe to read.

    Raises:
        ConfigError: a revision of a folder, which has none.
        CheckpointError: it cannot be fetched, or is damaged.
        UnsafeFileError: the folder is unsafe; nothing in it was loaded.
    """
    from polysense.models.base import local_folder

    if revision is not None and Path(name).exists():
        raise ConfigError(f"{name} is a folder here, which has no revisions", where="--revision",
                          fix="Leave it out, or name a repository on the Hub.")  # fmt: skip
    with loading(name):
        return local_folder(name, {"revision": revision})
