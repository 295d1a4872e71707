"""JSONL manifests: one row a sample, media paths relative to a root folder that no path may leave.

Row: `{"id": str, "media": {modality: path | {"path": str, "sha256": hex, ...facts}}, "labels": {modality: class},
"captions": {modality: [sentence, ...]}, "questions": [{"modality": str, "question": str, "answer": str}, ...], ...}`.
Only `id` and `media` are needed; further keys are kept in `Sample.extra`, and the questions are one of them.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray
from tqdm.auto import tqdm

from polysense.data.samples import MediaRef, Sample
from polysense.errors import ManifestError, MediaError, UnsafeFileError
from polysense.modality import JsonValue

MAX_ROW_BYTES = 8 * 2**20
_ROW_FIX = "Correct the row, or write the manifest again."


def resolve_inside(root: Path, relative: str, *, where: str) -> Path:
    """The file `relative` names under `root`, refused when it could be outside.

    Args:
        root: an already resolved folder.
        relative: the path as some file states it; it is not trusted.
        where: what the error message names as the place.

    Raises:
        UnsafeFileError: the path is absolute, has a `..` part, or leads outside through a symbolic link.
    """
    pure = PurePosixPath(relative)
    absolute = pure.is_absolute() or PureWindowsPath(relative).is_absolute() or "\0" in relative
    path = None if absolute or ".." in pure.parts else (root / pure).resolve()
    if path is None or not path.is_relative_to(root):
        raise UnsafeFileError(
            f"path {relative!r} leads outside {root}", where=where, fix="Give a path inside the folder, without links."
        )
    return path


class Manifest:
    """Samples of one JSONL file, read row by row on access.

    Opening it finds the row ends and parses nothing; a sample costs one read of its row. `validate` reads everything.

    Args:
        path: the JSONL file.
        root: folder that media paths are relative to; by default the manifest's own folder.
        check_sha256: compare each media file with the row's `sha256` before it is used (one more read of the file).

    Raises:
        ManifestError: the file is missing, empty or not lines of text.
    """

    def __init__(self, path: str | Path, root: str | Path | None = None, *, check_sha256: bool = False) -> None:
        self.path = Path(path)
        self.root = Path(root if root is not None else self.path.parent).resolve()
        self.check_sha256 = check_sha256
        if not self.path.is_file():
            raise ManifestError("there is no such manifest", where=self.path,
                                fix="Put it there, or correct its path; a world is built first.")  # fmt: skip
        self._starts, self._ends, self._lines = _row_bounds(self.path)
        if not len(self._starts):
            raise ManifestError("the manifest has no rows", where=self.path, fix="Build the data set again.")
        self._folders: dict[str, Path] = {}
        self._descriptor = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)

    def __del__(self) -> None:
        if (descriptor := getattr(self, "_descriptor", None)) is not None:
            os.close(descriptor)

    def __len__(self) -> int:
        return len(self._starts)

    def __getitem__(self, index: int) -> Sample:
        if not -len(self) <= index < len(self):
            raise IndexError(f"sample {index} of a manifest of {len(self)} rows")
        return self._sample(self._row(index), self._where(index))

    @cached_property
    def _label_rows(self) -> list[dict[str, str]]:
        rows = tqdm(range(len(self)), desc=f"labels of {self.path.name}", delay=2, leave=False)
        return [_strings(self._row(index), "labels", self._where(index)) for index in rows]

    def labels(self, modality: str) -> Sequence[str | None]:
        """Class name of every row in `modality` (`None`: unlabelled), from one pass over the file that is kept."""
        return [labels.get(modality) for labels in self._label_rows]

    def validate(self) -> None:
        """Read every row: well formed, ids unique, all files inside the root and present.

        Raises:
            ManifestError: naming the line; also for a media file that does not exist.
            UnsafeFileError: naming the line and the modality's key.
        """
        lines: dict[str, int] = {}
        for index in tqdm(range(len(self)), desc=f"checking {self.path.name}", delay=2, leave=False):
            sample, line = self[index], int(self._lines[index])
            if sample.id in lines:
                raise ManifestError(
                    f"id {sample.id!r} was already used in line {lines[sample.id]}",
                    where=self._where(index),
                    fix="Make the ids unique.",
                )
            lines[sample.id] = line
            sample.check_files(sample.media, where=self._where(index))

    def _where(self, index: int) -> str:
        return f"{self.path}, line {int(self._lines[index])}"

    def _row(self, index: int) -> dict[str, Any]:
        start, end, where = int(self._starts[index]), int(self._ends[index]), self._where(index)
        if end - start > MAX_ROW_BYTES:
            raise ManifestError(
                f"the row has {end - start} bytes, more than {MAX_ROW_BYTES}", where=where, fix=_ROW_FIX
            )
        try:
            row = json.loads(os.pread(self._descriptor, end - start, start), parse_constant=_no_constant)
        except (ValueError, RecursionError) as error:
            raise ManifestError(f"the row is not JSON ({error})", where=where, fix=_ROW_FIX) from error
        if not isinstance(row, dict):
            raise ManifestError("the row is not a JSON object", where=where, fix=_ROW_FIX)
        return row

    def _sample(self, row: dict[str, Any], where: str) -> Sample:
        sample_id, media = row.pop("id", None), row.pop("media", None)
        if not isinstance(sample_id, str) or not sample_id:
            raise ManifestError("'id' is missing or not a text", where=where, fix=_ROW_FIX)
        if not isinstance(media, dict) or not media:
            raise ManifestError("'media' is missing or not an object of modalities", where=where, fix=_ROW_FIX)
        refs = {modality: self._ref(modality, spec, where) for modality, spec in media.items()}
        labels, captions = _strings(row, "labels", where), _sentences(row, where)
        extra = {key: value for key, value in row.items() if key not in ("labels", "captions")}
        return Sample(sample_id, refs, labels, captions, extra)

    def _ref(self, modality: str, spec: JsonValue, where: str) -> MediaRef:
        facts = dict(spec) if isinstance(spec, dict) else {"path": spec}
        relative, sha256 = facts.pop("path", None), facts.pop("sha256", None)
        if not isinstance(relative, str) or not relative or not isinstance(sha256, str | None):
            raise ManifestError(
                f"media.{modality} has no path, or a sha256 that is not text", where=where, fix=_ROW_FIX
            )
        path = self._inside(relative, where=f"{where}, media.{modality}")
        if self.check_sha256 and sha256 is not None:
            _check_sha256(path, sha256)
        return MediaRef(path, facts)

    def _inside(self, relative: str, *, where: str) -> Path:
        """`resolve_inside`, for which every folder is looked at once: a sample names many files, and is read often."""
        folder, _, name = relative.rpartition("/")
        if not folder or name in ("", ".", "..") or "\0" in name:
            return resolve_inside(self.root, relative, where=where)
        if folder not in self._folders:
            self._folders[folder] = resolve_inside(self.root, folder, where=where)
        path = self._folders[folder] / name
        return resolve_inside(self.root, relative, where=where) if path.is_symlink() else path


def _row_bounds(path: Path) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Byte offsets of the start and end, and the line number, of every row that is not blank."""
    starts, ends, lines, offset = [], [], [], 0
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if line.strip():
                starts.append(offset)
                ends.append(offset + len(line))
                lines.append(number)
            offset += len(line)
    return np.asarray(starts, np.int64), np.asarray(ends, np.int64), np.asarray(lines, np.int64)


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _strings(row: Mapping[str, Any], key: str, where: str) -> dict[str, str]:
    values = row.get(key, {})
    if not isinstance(values, dict) or not all(isinstance(value, str) for value in values.values()):
        raise ManifestError(f"'{key}' is not an object of modality to text", where=where, fix=_ROW_FIX)
    return values


def _sentences(row: Mapping[str, Any], where: str) -> dict[str, tuple[str, ...]]:
    values = row.get("captions", {})
    well_formed = isinstance(values, dict) and all(
        isinstance(sentences, list) and all(isinstance(sentence, str) for sentence in sentences)
        for sentences in values.values()
    )
    if not well_formed:
        raise ManifestError("'captions' is not an object of modality to a list of texts", where=where, fix=_ROW_FIX)
    return {modality: tuple(sentences) for modality, sentences in values.items()}


def _check_sha256(path: Path, expected: str) -> None:
    try:
        with path.open("rb") as file:
            actual = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise MediaError(f"the file cannot be read ({error.strerror})", where=path, fix="Restore the file.") from error
    if actual != expected.lower():
        raise MediaError(
            "the file is not the one the manifest was written for (SHA-256 differs)",
            where=path,
            fix="Restore the file or write the manifest again.",
        )
