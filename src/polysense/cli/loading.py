"""Checkpoints named on the command line: a folder, or owner/name on the Hub."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def loading(name: str | Path) -> Iterator[None]:
    """`polysense.models.base.reading`, without transformers' progress bars."""
    from transformers.utils import logging as transformers_logging  # which --help does not need

    from polysense.models.base import reading

    transformers_logging.disable_progress_bar()
    with reading(name):
        yield


def fetched(name: str | Path, revision: str | None = None) -> Path:
    """`polysense.models.base.local_folder`, without progress bars; errors: see there."""
    from polysense.models.base import local_folder

    with loading(name):
        return local_folder(name, {"revision": revision})
