"""Frozen tokens on disk, shared by every run whose encoder, processor and files are the same."""

from __future__ import annotations

import json
import logging
import os
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from polysense.modality import JsonValue
from polysense.storage import digest

logger = logging.getLogger(__name__)

_KEY_LENGTH = 24
_CHECKSUM = "sha256"  # of the numbers, in a file's metadata


class FrozenTokenStore:
    """A folder with one safetensors file per sample, in a folder per encoder and way of processing.

    A file's name says all that its tokens depend on, and it appears under it complete or not at all. So processes need
    no lock to share the folder, the worst that happens is that two of them compute the same, and nothing in it ever
    becomes stale: what changes gets another name.

    Args:
        folder: made if need be; it may be deleted at any time.
        limit: bytes that it may grow by from now on; what does not fit is computed again each time.
    """

    def __init__(self, folder: str | Path, limit: int = 64 << 30) -> None:
        self.folder, self._left = Path(folder), limit

    def get(
        self, encoding: str, source: str | Path, facts: Mapping[str, JsonValue], encode: Callable[[], Tensor]
    ) -> Float[Tensor, "time space dim"]:
        """The tokens of a file, computed by `encode` if they are not there yet.

        Args:
            encoding: digest of what turns files into tokens: an encoder's weights and settings, a processor's options.
            facts: what the data set says of the file, which processors may use.

        Raises: what `encode` does.
        """
        path = self._path(encoding, source, facts)
        if path is None:
            return encode()  # it cannot be read: the processor says so better
        if (kept := self._read(path)) is None:
            kept = encode()
            self._write(path, kept)
        return kept

    def _path(self, encoding: str, source: str | Path, facts: Mapping[str, JsonValue]) -> Path | None:
        try:
            content = Path(source).read_bytes()
        except OSError:
            return None
        sample = digest(content + json.dumps(dict(facts), sort_keys=True, default=str).encode())[:_KEY_LENGTH]
        return self.folder / encoding[:_KEY_LENGTH] / sample[:2] / f"{sample}.safetensors"

    @staticmethod
    def _read(path: Path) -> Tensor | None:
        try:
            content = path.read_bytes()
            tokens = load(content)["tokens"]
            _check(content, tokens)
            return tokens
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (OSError, SafetensorError, KeyError, ValueError) as error:
            logger.warning("%s cannot be used (%s) and is computed again", path, error)
            return None

    def _write(self, path: Path, tokens: Tensor) -> None:
        size = tokens.numel() * tokens.element_size()
        if size > self._left:
            return
        temporary = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_ident()}")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary.write_bytes(_content(tokens.contiguous()))  # save_file's are for their owner alone
            temporary.replace(path)
            self._left -= size
        except (OSError, SafetensorError) as error:
            self._left = 0  # a disk that is full stays so for now: the run needs no store to go on
            with suppress(OSError):
                temporary.unlink()
            logger.warning("no further tokens are kept in %s (%s)", self.folder, error)


def _content(tokens: Tensor) -> bytes:
    """A file of tokens that says what its numbers are."""
    return save({"tokens": tokens}, metadata={_CHECKSUM: _digest(tokens)})


def _check(content: bytes, tokens: Tensor) -> None:
    """Raise `ValueError` if the numbers are not those that were written; older files do not say what these were."""
    header: Mapping[str, Any] = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    if header.get("__metadata__", {}).get(_CHECKSUM) not in (None, _digest(tokens)):
        raise ValueError("SHA-256 differs")


def _digest(tokens: Tensor) -> str:
    return digest(tokens.cpu().view(torch.uint8).numpy().tobytes())


__all__ = ["FrozenTokenStore"]
