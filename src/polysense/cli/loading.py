"""Checkpoints named on the command line: a folder, or owner/name on the Hub."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from polysense.errors import CheckpointError, PolysenseError


@contextmanager
def loading(name: str | Path) -> Iterator[None]:
    """Within this block, whatever transformers or the Hub client raise becomes a `CheckpointError` about `name`."""
    from transformers.utils import logging as transformers_logging  # which --help does not need

    transformers_logging.disable_progress_bar()
    try:
        yield
    except PolysenseError:
        raise
    # transformers and the Hub client raise errors of many libraries here, hence the broad clause
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        raise CheckpointError(f"the model cannot be loaded ({type(error).__name__}: {reason})", where=name,
                              fix="Give a stage's folder, or owner/name on the Hub.") from error  # fmt: skip


def fetched(name: str | Path, revision: str | None = None) -> Path:
    """The local folder of a checkpoint, after a look at whether it is safe to read.

    Raises:
        CheckpointError: it cannot be fetched, or is damaged.
        UnsafeFileError: the folder is unsafe; nothing in it was loaded.
    """
    from polysense.models.base import local_folder

    text = str(name)
    if not Path(name).exists() and (text.count("/") > 1 or text.startswith((".", "/", "~"))):
        raise CheckpointError("there is no such folder", where=name,
                              fix="Give a stage's folder, or owner/name on the Hub.")  # fmt: skip
    with loading(name):
        return local_folder(name, {"revision": revision})
