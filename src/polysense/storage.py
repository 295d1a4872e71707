"""Folders that are written whole or not at all, and that can tell when they were damaged.

A folder is written under a temporary name, every file is synced, `MANIFEST.json` (SHA-256 and size of every file)
comes last, then one rename makes it visible. So a folder under its final name was complete once, and its manifest
tells whether it still is.
"""

from __future__ import annotations

import errno
import hashlib
import json
import logging
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from importlib import metadata
from pathlib import Path, PurePosixPath
from typing import Any

from polysense.errors import CheckpointError, ConfigError, PolysenseError, UnsafeFileError
from polysense.modality import JsonValue
from polysense.version import __version__

logger = logging.getLogger(__name__)

MANIFEST = "MANIFEST.json"
_FORMAT = 1
_ENTRY = {"sha256", "size"}
_PACKAGES = ("torch", "transformers", "safetensors", "accelerate")
_OS_ERROR = re.compile(r"\(os error (\d+)\)")  # as libraries in Rust quote the system: safetensors, tokenizers


class FileSystem:
    """Every operation by which this library changes a run folder. Tests put faults in its place."""

    def make_folder(self, path: Path) -> None:
        path.mkdir(parents=True, exist_ok=True)

    def write(self, path: Path, data: bytes) -> None:
        with path.open("wb") as file:
            file.write(data)

    def sync(self, path: Path) -> None:
        """Wait until a file's content, or a folder's list of names, is on the disk."""
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def replace(self, source: Path, target: Path) -> None:
        source.replace(target)

    def remove_folder(self, path: Path) -> None:
        shutil.rmtree(path)


def digest(data: bytes) -> str:
    """SHA-256 in hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def is_stream(path: Path) -> bool:
    """Whether a path is a device or a pipe, such as /dev/stdout: one writes to it, and no file may take its place."""
    return path.exists() and not path.is_file() and not path.is_dir()


def _behind_links(path: Path) -> Path:
    """The file that a link leads to, there or not; any other path as it is."""
    return Path(os.path.realpath(path)) if path.is_symlink() else path


def write_whole(path: Path, content: str | bytes) -> None:
    """Write a file under its name at once, whole or not at all; its folder is made if need be.

    Of several processes that write it at once, one has the last word. A link stays one, and the file that it leads to
    is written; so is a device or a pipe, as it is.
    """
    data = content if isinstance(content, bytes) else content.encode()
    if is_stream(path):
        path.write_bytes(data)
        return
    path = _behind_links(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temporary.write_bytes(data)
        temporary.replace(path)
    except BaseException:
        with suppress(OSError):
            temporary.unlink()
        raise


def refusal(error: BaseException) -> str | None:
    """Why the disk refused, where an error says that it did: an `OSError`, or one that a library made of it."""
    if isinstance(error, OSError):
        return error.strerror or str(error)
    quoted = None if isinstance(error, PolysenseError) else _OS_ERROR.search(str(error))
    return os.strerror(int(quoted[1])) if quoted else None


@contextmanager
def writing(place: str | Path) -> Iterator[None]:
    """Within this block, what the disk refuses becomes a `ConfigError` about the file or folder `place`."""
    try:
        yield
    except Exception as error:
        if (reason := refusal(error)) is None:
            raise
        raise ConfigError(f"it cannot be written ({reason})", where=place,
                          fix="Choose another place, or make room there.") from error  # fmt: skip


def check_writable(path: Path) -> None:
    """Refuse a file that cannot be written, before the work whose outcome it is to hold; its folder is made.

    Raises:
        ConfigError: it is a folder, or its folder cannot be made or written to.
    """
    with writing(path):
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        if is_stream(path):
            if not os.access(path, os.W_OK):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
            return
        path = _behind_links(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path.parent):
            pass


def write_manifest(
    folder: Path, details: Mapping[str, JsonValue] | None = None, files: FileSystem | None = None
) -> None:
    """Sync every file of `folder`, then write and sync its manifest.

    Args:
        folder: holds the finished files, in any depth.
        details: what else the manifest is to say, such as the parent checkpoint; it is covered by the checksum.
        files: how to write.
    """
    files = files or FileSystem()
    with ThreadPoolExecutor(1) as pool:  # checksums are made while the disk works
        listed = pool.submit(_listing, folder)
        for path in sorted(folder.rglob("*")):
            files.sync(path)
        listing = listed.result()
    content = {"format": _FORMAT, "files": listing, "versions": _versions(), "details": dict(details or {})}
    content["sha256"] = digest(_canonical(content))
    files.write(folder / MANIFEST, json.dumps(content, indent=1).encode())
    files.sync(folder / MANIFEST)
    files.sync(folder)


@contextmanager
def atomic_folder(
    target: str | Path,
    *,
    details: Mapping[str, JsonValue] | None = None,
    needed_bytes: int | None = None,
    files: FileSystem | None = None,
) -> Iterator[Path]:
    """Yield a temporary folder to write into; it becomes `target` when the block ends, and vanishes if it fails.

    An existing `target` is replaced. Its files get the permissions that new files have there (umask), whatever wrote
    them. A process that is killed leaves at most a hidden temporary folder, which the
    next call for the same target removes (and it restores a target that was put aside at that moment).

    Args:
        target: the final folder; its parent is made if need be.
        details: see `write_manifest`.
        needed_bytes: size of what will be written, for the message when the disk is full.
        files: how to write.

    Raises:
        CheckpointError: the disk is full or broken. What was there before is as it was.
    """
    files, target = files or FileSystem(), Path(target)
    temporary, aside = target.with_name(f".{target.name}.tmp"), target.with_name(f".{target.name}.old")
    try:
        files.make_folder(target.parent)
        _recover(target, temporary, aside, files)
        files.make_folder(temporary)
        yield temporary
        _share(temporary)
        write_manifest(temporary, details, files)
        if target.exists():
            files.replace(target, aside)
        files.replace(temporary, target)
        files.sync(target.parent)
    except BaseException as error:
        _clean(target, temporary, aside, files)
        if (reason := refusal(error)) is None:
            raise
        free = shutil.disk_usage(target.parent if target.parent.exists() else Path.cwd()).free
        size = "" if needed_bytes is None else f"; {needed_bytes:,} bytes are needed, {free:,} are free"
        raise CheckpointError(
            f"the folder could not be written ({reason}{size})",
            where=target,
            fix="Make room or choose another disk, then start again: earlier checkpoints are intact.",
        ) from error
    if aside.exists():
        _remove_quietly(aside, files)


def verify_folder(folder: str | Path, required: tuple[str, ...] = (), ignore: tuple[str, ...] = ()) -> dict[str, Any]:
    """Compare a folder with its manifest and return the manifest.

    Args:
        folder: written by `atomic_folder` or `write_manifest`.
        required: files that it must have.
        ignore: files that people may change, such as a README.

    Raises:
        CheckpointError: the manifest or a file is missing, cut, changed or exchanged; the message names it.
        UnsafeFileError: the manifest names a file outside the folder.
    """
    manifest = read_manifest(folder, required)
    for name, entry in manifest["files"].items():
        if name in ignore:
            continue
        path = Path(folder) / name
        try:
            size = path.stat().st_size
            with path.open("rb") as file:
                sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise _damaged(path, f"cannot be read ({error.strerror})") from error
        _compare(path, entry, size, sha256)
    return manifest


def check_intact(folder: Path) -> None:
    """Verify a folder but for its README, where it has a manifest: one that others wrote has none.

    Raises:
        CheckpointError, UnsafeFileError: see `verify_folder`.
    """
    if (folder / MANIFEST).exists():
        verify_folder(folder, ignore=("README.md",))


def fingerprint(folder: str | Path, ignore: tuple[str, ...] = ()) -> str:
    """SHA-256 of what a folder holds: its manifest's, once that is verified, or of all files where there is none.

    Args:
        folder: written by `atomic_folder`, or by others, such as `save_pretrained` or the Hub's client.
        ignore: files that people may change, such as a README.

    Raises:
        CheckpointError, UnsafeFileError: see `verify_folder`.
    """
    folder = Path(folder)
    if (folder / MANIFEST).exists():
        return str(verify_folder(folder, ignore=ignore)["sha256"])
    listing = {name: entry for name, entry in _listing(folder).items() if name not in ignore}
    return digest(_canonical(listing))


def read_verified(folder: str | Path, required: tuple[str, ...] = ()) -> tuple[dict[str, Any], dict[str, bytes]]:
    """The manifest and the bytes of every file; what is returned is what was judged. Raises: see `verify_folder`."""
    manifest = read_manifest(folder, required)
    contents = {}
    for name, entry in manifest["files"].items():
        path = Path(folder) / name
        try:
            contents[name] = path.read_bytes()
        except OSError as error:
            raise _damaged(path, f"cannot be read ({error.strerror})") from error
        _compare(path, entry, len(contents[name]), digest(contents[name]))
    return manifest, contents


def read_manifest(folder: str | Path, required: tuple[str, ...] = ()) -> dict[str, Any]:
    """The manifest of a folder, itself checked, without looking at the files. Raises: see `verify_folder`."""
    path = Path(folder) / MANIFEST
    try:
        content = json.loads(path.read_bytes())
        stated = content.pop("sha256")
        listing = content["files"]
        intact = stated == digest(_canonical(content)) and content["format"] == _FORMAT
        if not (isinstance(content["details"], dict) and all(each.keys() >= _ENTRY for each in listing.values())):
            raise TypeError("entries")
    except OSError as error:
        raise _damaged(path, f"cannot be read ({error.strerror})") from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise _damaged(path, "is not a manifest") from error
    if not intact:
        raise _damaged(path, "was changed after it was written")
    for name in listing:
        pure = PurePosixPath(name)
        if (
            pure.is_absolute()
            or ".." in pure.parts
            or "\0" in name
            or not (Path(folder) / pure).resolve().is_relative_to(Path(folder).resolve())
        ):
            raise UnsafeFileError(f"the manifest names {name!r}", where=path, fix="Do not use this folder.")
    if missing := [name for name in required if name not in listing]:
        raise _damaged(Path(folder), f"lacks {', '.join(missing)}")
    return {**content, "sha256": stated}


def _listing(folder: Path) -> dict[str, dict[str, JsonValue]]:
    """SHA-256 and size of every file but the manifest, by its path."""
    listing: dict[str, dict[str, JsonValue]] = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path != folder / MANIFEST:
            with path.open("rb") as file:
                sha256 = hashlib.file_digest(file, "sha256").hexdigest()
            listing[path.relative_to(folder).as_posix()] = {"sha256": sha256, "size": path.stat().st_size}
    return listing


def _compare(path: Path, entry: Mapping[str, Any], size: int, sha256: str) -> None:
    if size != entry["size"]:
        raise _damaged(path, f"has {size} bytes, not {entry['size']}")
    if sha256 != entry["sha256"]:
        raise _damaged(path, "has another content than when it was written (SHA-256 differs)")


def _damaged(path: Path, what: str) -> CheckpointError:
    return CheckpointError(what, where=path, fix="Use another checkpoint, or restore the file.")


def _canonical(content: Mapping[str, Any]) -> bytes:
    return json.dumps(content, sort_keys=True, separators=(",", ":")).encode()


def _versions() -> dict[str, str]:
    installed = {"polysense": __version__}
    for name in _PACKAGES:
        try:
            installed[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            installed[name] = "not installed"
    return installed


def _recover(target: Path, temporary: Path, aside: Path, files: FileSystem) -> None:
    """Undo what a killed process left half done."""
    if temporary.exists():
        files.remove_folder(temporary)
    if aside.exists() and not target.exists():
        files.replace(aside, target)
    elif aside.exists():
        files.remove_folder(aside)


def _share(folder: Path) -> None:
    """Let those read the files who may read their folders: safetensors 0.8 keeps what it writes to its owner."""
    for path in folder.rglob("*"):
        if path.is_file() and not path.is_symlink():
            mode = path.parent.stat().st_mode & 0o666
            if path.stat().st_mode & 0o777 != mode:
                with suppress(OSError):  # file systems without permissions have nothing to be asked for
                    path.chmod(mode)


def _clean(target: Path, temporary: Path, aside: Path, files: FileSystem) -> None:
    if aside.exists() and not target.exists():
        try:
            files.replace(aside, target)
        except OSError as error:
            logger.warning("%s is left under the name %s (%s)", target, aside, error)
    if temporary.exists():
        _remove_quietly(temporary, files)


def _remove_quietly(folder: Path, files: FileSystem) -> None:
    try:
        files.remove_folder(folder)
    except OSError as error:
        logger.warning("%s is left over and can be deleted (%s)", folder, error)
