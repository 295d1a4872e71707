"""Feature sequences of one sense on disk: computed once, resumed after a stop, unusable files skipped and counted."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, cast

import torch
from jaxtyping import Float
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor
from tqdm.auto import tqdm

from polysense.errors import CheckpointError, ManifestError, MediaError, QuotaExceededError
from polysense.modality import JsonValue
from polysense.storage import FileSystem, digest

logger = logging.getLogger(__name__)

_KEY_LENGTH = 24
_SKIPPED = "skipped"
_OPEN_SHARDS = 256

Extract = Callable[[], Tensor]
"""Computes the sequence of one sample; `MediaError` where the sample cannot be used."""


class FeatureStore:
    """A folder of safetensors files, each with the sequences of some samples under their ids.

    The folder's name says what made the sequences, so that another extractor, or another data set, never meets them. A
    file's name is the SHA-256 of its content and it appears under it complete or not at all: what a killed run has
    written is kept, several processes may write at once, and damage is noticed when a file is first used.

    Args:
        folder: may be shared by many stores; made if need be.
        key: digest of all that a sequence depends on beside its sample's id: the extractor, and the data set.
        about: what the key stands for, for people who look into the folder.
        files: how to write.

    Raises:
        CheckpointError: a file of the store cannot be read.
    """

    def __init__(
        self,
        folder: str | Path,
        key: str,
        about: Mapping[str, JsonValue] | None = None,
        files: FileSystem | None = None,
    ) -> None:
        self.folder, self._about, self._files = Path(folder) / key[:_KEY_LENGTH], dict(about or {}), files
        self._shards: dict[str, Path] = {}
        self.skipped: dict[str, str] = {}
        for path in sorted(self.folder.glob("*.safetensors")):
            self._index(path)

    def __len__(self) -> int:
        return len(self._shards)

    def __contains__(self, sample: object) -> bool:
        return sample in self._shards

    def __iter__(self) -> Iterator[str]:
        return iter(self._shards)

    def __getitem__(self, sample: str) -> Float[Tensor, "time ..."]:
        """The sequence of a sample, `time dim` or `time height width dim`, real steps alone.

        Raises:
            ManifestError: there is none; the message says why, where that is known.
            CheckpointError: its file was damaged or exchanged since it was written.
        """
        if sample not in self._shards:
            reason = self.skipped.get(sample, "it was not extracted")
            raise ManifestError(f"there are no features of the sample ({reason})", where=sample,
                                fix="Extract the data set's features first, or leave the sample out.")  # fmt: skip
        return cast(Tensor, _opened(self._shards[sample]).get_tensor(sample).float())

    def fill(
        self,
        wanted: Mapping[str, Extract],
        *,
        shard_bytes: int = 64 << 20,
        max_skipped_share: float = 0.05,
        half: bool = False,
    ) -> int:
        """Compute and store what is missing; returns how many sequences were added.

        Args:
            wanted: sample's id to what computes its sequence. What was skipped before is tried again.
            shard_bytes: size at which a file is written; no more than that is lost when a run is killed.
            max_skipped_share: share of the wanted samples that may be unusable; one may in any case.
            half: keep 16 bits of each value; they are read as 32 all the same.

        Raises:
            QuotaExceededError: more samples are unusable than that; what was computed is kept.
            CheckpointError: the disk is full or broken; what was there before is as it was.
        """
        missing = [sample for sample in wanted if sample not in self]
        if missing:
            self._put(self.folder / "about.json", json.dumps(self._about, indent=1).encode() + b"\n")
        full: dict[str, Tensor] = {}
        reasons: dict[str, str] = {}
        size = 0
        for sample in tqdm(missing, desc=f"features {self.folder.name[:8]}", delay=2, leave=False):
            try:
                full[sample] = _checked(wanted[sample](), sample, torch.float16 if half else torch.float32)
            except MediaError as error:
                reasons[sample] = str(error)
                logger.warning("skipped sample %s: %s", sample, error)
                continue
            size += full[sample].nbytes
            if size >= shard_bytes:
                self._write(full, reasons)
                full, reasons, size = {}, {}, 0
        if full or any(sample not in self.skipped for sample in reasons):
            self._write(full, reasons)
        self._account(wanted, max_skipped_share)
        return sum(sample in self for sample in missing)

    def _account(self, wanted: Mapping[str, Extract], share: float) -> None:
        unusable = {sample: reason for sample, reason in self.skipped.items() if sample in wanted}
        if unusable:
            logger.warning("%d of %d samples have no features in %s", len(unusable), len(wanted), self.folder)
        if len(unusable) > max(1, int(share * len(wanted))):
            raise QuotaExceededError(
                f"{len(unusable)} of {len(wanted)} samples cannot be used, the last one because: "
                f"{list(unusable.values())[-1]}", where=self.folder,
                fix=f"Repair the data set; the quota is {share:.1%} of its samples.",
            )  # fmt: skip

    def _write(self, sequences: Mapping[str, Tensor], reasons: Mapping[str, str]) -> None:
        content = save(dict(sequences), metadata={_SKIPPED: json.dumps(dict(reasons))})
        path = self.folder / f"{digest(content)}.safetensors"
        self._put(path, content)
        self._index(path)

    def _put(self, path: Path, content: bytes) -> None:
        files, temporary = self._files or FileSystem(), path.with_name(f".{path.name}.{os.getpid()}")
        try:
            files.make_folder(self.folder)
            files.write(temporary, content)
            files.sync(temporary)
            files.replace(temporary, path)
        except OSError as error:
            with suppress(OSError):
                temporary.unlink()
            raise CheckpointError(
                f"features cannot be written ({error.strerror or error}; {len(content):,} bytes are needed)",
                where=path, fix="Make room, then start again: what was written before is kept.",
            ) from error  # fmt: skip

    def _index(self, path: Path) -> None:
        """Note what a file holds; its header alone is read."""
        try:
            with safe_open(path, framework="pt") as shard:
                reasons = dict(json.loads((shard.metadata() or {}).get(_SKIPPED, "{}")))
                samples = list(shard.keys())
        except (OSError, SafetensorError, ValueError, TypeError) as error:
            raise _damaged(path, f"cannot be read ({error})") from error
        self._shards |= dict.fromkeys(samples, path)
        known = {**self.skipped, **reasons}
        self.skipped = {sample: reason for sample, reason in known.items() if sample not in self._shards}


def _checked(sequence: Tensor, sample: str, dtype: torch.dtype) -> Tensor:
    """A sequence as it is stored: what is finite may be too large for 16 bits."""
    stored = sequence.to("cpu", dtype).contiguous()
    if not len(stored) or not bool(stored.isfinite().all()):
        raise MediaError(f"has features without a step, or that are not finite as {str(dtype).removeprefix('torch.')}",
                         where=sample, fix="Check the file, keep 32 bits, or leave the sample out.")  # fmt: skip
    return stored


@lru_cache(maxsize=_OPEN_SHARDS)
def _opened(path: Path) -> Any:
    """A file of a store, mapped into memory."""
    try:
        _verify(path)
        return safe_open(path, framework="pt")
    except (OSError, SafetensorError) as error:
        raise _damaged(path, f"cannot be read ({error})") from error


@cache
def _verify(path: Path) -> None:
    """Compare a file with its name, once in a process however often it is opened."""
    with path.open("rb") as file:
        if hashlib.file_digest(file, "sha256").hexdigest() != path.stem:
            raise _damaged(path, "has another content than when it was written (SHA-256 differs)")


def _damaged(path: Path, what: str) -> CheckpointError:
    return CheckpointError(what, where=path, fix="Delete the file: its features are then extracted again.")
