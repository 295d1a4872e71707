"""Building, loading and verifying a world on disk."""

from __future__ import annotations

import fcntl
import hashlib
import json
import logging
import multiprocessing
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from polysense.errors import ConfigError, FolderInUseError, ManifestError, MediaError, PolysenseError
from polysense.storage import writing
from polysense.world.attributes import SHAPES
from polysense.world.clips import build_clip
from polysense.world.config import KINDS, SPLITS, VERSION, WorldConfig
from polysense.world.sdf import surface
from polysense.world.stills import build_still
from polysense.world.subsets import SUBSETS, Row, draw
from polysense.world.timing import Stopwatch

logger = logging.getLogger(__name__)

SUMMARY = "world.json"
_MARK = ".building.json"
_CHUNK = {"stills": 40, "clips": 8}
_BUILDERS: dict[str, Callable[[Path, WorldConfig, str, int, Stopwatch], Row]] = {
    "stills": build_still,
    "clips": build_clip,
}
_Task = tuple[str, str, int, int]  # kind, split, first, end


@dataclass(frozen=True)
class WorldSummary:
    """What `world.json` tells of a finished world.

    Attributes:
        directory: root folder, to which all paths in its manifests are relative.
        config: what it was built from.
        content_hash: of config and version; equal hashes mean equal content.
        counts: rows per manifest.
        build_seconds: processor seconds per sense, summed over workers.
        wall_seconds: from start to end of the build.
    """

    directory: Path
    config: WorldConfig
    content_hash: str
    counts: Mapping[str, int]
    build_seconds: Mapping[str, float]
    wall_seconds: float

    def manifest(self, name: str) -> Path:
        """Path of a manifest such as "stills-train" or "train-depth"; `ConfigError` lists those there are."""
        if name not in self.counts:
            raise ConfigError(
                f"the world has no manifest {name!r}", where=self.directory, fix=f"It has {', '.join(self.counts)}."
            )
        return self.directory / "manifests" / f"{name}.jsonl"


def build_world(
    directory: str | Path, config: WorldConfig, *, workers: int = 2, progress: bool = True
) -> WorldSummary:
    """Build a world, or return at once when the folder already holds this very world.

    `world.json` is written last: an interrupted build never passes for a finished one, and calling again completes it.

    Args:
        directory: root folder, made when missing.
        config: what to build.
        workers: processes; the content does not depend on it.
        progress: whether to show a bar.

    Raises:
        ConfigError: the folder holds another world or other files, or cannot be written.
        FolderInUseError: another process is building there.
        PolysenseError: a worker process died.
    """
    root = Path(directory)
    if (root / SUMMARY).is_file():
        found = load_world(root)
        if found.content_hash != config.content_hash:
            raise ConfigError("the folder holds a world of another configuration", where=root,
                              fix="Build into another folder, or delete this one first.")  # fmt: skip
        return found
    started, watch = time.perf_counter(), Stopwatch()
    with writing(root), _exclusive(root, config):
        rows = _build_rows(root, config, workers, watch, progress)
        counts, digests = _write_manifests(root, rows)
        seconds = {part: round(spent, 2) for part, spent in sorted(watch.seconds.items())}
        wall = round(time.perf_counter() - started, 2)
        summary = {
            "version": VERSION,
            "content_hash": config.content_hash,
            "config": config.to_dict(),
            "counts": counts,
            "manifest_sha256": digests,
            "build_seconds": seconds,
            "wall_seconds": wall,
            "workers": workers,
        }
        _write_atomically(root / SUMMARY, json.dumps(summary, indent=2) + "\n")
        (root / _MARK).unlink()
    parts = ", ".join(f"{part} {spent:.1f} s" for part, spent in seconds.items())
    logger.info("built %s: %s; %.1f s on %d workers", root, parts, wall, workers)
    return load_world(root)


def load_world(directory: str | Path) -> WorldSummary:
    """Read a finished world's summary.

    Raises:
        ManifestError: there is no finished world, or it was made by another version of the generator.
    """
    root = Path(directory)
    try:
        values = json.loads((root / SUMMARY).read_text())
        summary = WorldSummary(
            root, WorldConfig.from_dict(values["config"]), values["content_hash"], values["counts"],
            values["build_seconds"], values["wall_seconds"],
        )  # fmt: skip
        version = values["version"]
    except FileNotFoundError as error:
        raise ManifestError("there is no finished world here", where=root,
                            fix="Build one with `polysense world build`.") from error  # fmt: skip
    except (json.JSONDecodeError, KeyError, TypeError, UnicodeDecodeError) as error:
        raise ManifestError(f"world.json cannot be read ({error!r})", where=root,
                            fix="Delete the folder and build the world again.") from error  # fmt: skip
    if version != VERSION or summary.content_hash != summary.config.content_hash:
        raise ManifestError(
            f"the world was made by version {version} of the generator, this is version {VERSION}",
            where=root, fix="Build it again in another folder.",
        )  # fmt: skip
    return summary


def verify_world(directory: str | Path) -> int:
    """Check every manifest and media file against its SHA-256; returns how many files were checked.

    Raises:
        ManifestError: a manifest is missing or altered.
        MediaError: a media file is missing or altered.
    """
    summary = load_world(directory)
    root = summary.directory
    digests = json.loads((root / SUMMARY).read_text())["manifest_sha256"]
    checked: dict[str, str] = {}
    for name in summary.counts:
        path = summary.manifest(name)
        if not path.is_file() or hashlib.sha256(path.read_bytes()).hexdigest() != digests[name]:
            raise ManifestError("the manifest is missing or differs from what was built", where=path,
                                fix="Delete the world's folder and build it again.")  # fmt: skip
        for line in path.read_text().splitlines():
            for entry in json.loads(line)["media"].values():
                checked.setdefault(entry["path"], entry["sha256"])
    for relative, digest in checked.items():
        path = root / relative
        if not path.is_file() or hashlib.sha256(path.read_bytes()).hexdigest() != digest:
            raise MediaError("the file is missing or differs from what was built", where=path,
                             fix="Delete the world's folder and build it again.")  # fmt: skip
    return len(checked) + len(summary.counts)


def manifest_digests(world: WorldSummary) -> dict[str, str]:
    """SHA-256 of what every manifest says of its samples: media, labels, captions, facts.

    The checksums of the media themselves are left out: the last bit of a picture may differ between machines.

    Raises:
        ManifestError: a manifest is missing or damaged.
    """
    digests = {}
    for name in world.counts:
        path, together = world.manifest(name), hashlib.sha256()
        try:
            for line in path.read_text(encoding="utf-8").splitlines():
                row = json.loads(line)
                for entry in row["media"].values():
                    entry.pop("sha256")
                together.update(json.dumps(row, sort_keys=True).encode() + b"\n")
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise ManifestError(f"the manifest cannot be read ({error!r})", where=path,
                                fix="Delete the world's folder and build it again.") from error  # fmt: skip
        digests[name] = together.hexdigest()
    return digests


@contextmanager
def _exclusive(root: Path, config: WorldConfig) -> Iterator[None]:
    """Hold the folder for this process and this config; released by the system if the process dies."""
    mark = root / _MARK
    if root.is_dir() and any(root.iterdir()) and not mark.is_file():
        raise ConfigError("the folder is not empty and holds no world", where=root,
                          fix="Choose an empty one; a recipe on files of your own has `world: null`.")  # fmt: skip
    root.mkdir(parents=True, exist_ok=True)
    with mark.open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise FolderInUseError("another process is building a world here", where=root,
                                   fix="Wait for it, or choose another folder.") from error  # fmt: skip
        file.seek(0)
        if (begun := file.read()) not in ("", config.content_hash):
            raise ConfigError("the folder holds an unfinished world of another configuration", where=root,
                              fix=f"Delete it or choose another folder (it was begun as {begun[:12]}).")  # fmt: skip
        file.truncate(0)
        file.write(config.content_hash)
        file.flush()
        yield


def _build_rows(
    root: Path, config: WorldConfig, workers: int, watch: Stopwatch, progress: bool
) -> dict[str, dict[str, list[Row]]]:
    tasks: list[_Task] = [
        (kind, split, first, min(first + _CHUNK[kind], config.count(kind, split)))
        for kind in reversed(KINDS)
        for split in SPLITS
        for first in range(0, config.count(kind, split), _CHUNK[kind])
    ]
    for shape in SHAPES:
        surface(shape)  # before the fork, so that workers share it
    done: dict[_Task, list[Row]] = {}
    total = sum(end - first for _, _, first, end in tasks)
    with tqdm(total=total, desc="world", unit="sample", disable=not progress, mininterval=0.5) as bar:
        for task, (rows, seconds) in _run(root, config, tasks, workers):
            done[task] = rows
            watch.add(seconds)
            bar.update(len(rows))
    return {
        split: {
            kind: [row for task in tasks if task[:2] == (kind, split) for row in done[task]] for kind in KINDS
        }
        for split in SPLITS
    }  # fmt: skip


def _run(
    root: Path, config: WorldConfig, tasks: Sequence[_Task], workers: int
) -> Iterator[tuple[_Task, tuple[list[Row], dict[str, float]]]]:
    if workers <= 1 or len(tasks) < 2:
        yield from ((task, _build_chunk(root, config, task)) for task in tasks)
        return
    method = "fork" if "fork" in multiprocessing.get_all_start_methods() else "spawn"
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context(method)) as pool:
        futures: dict[Future[tuple[list[Row], dict[str, float]]], _Task] = {
            pool.submit(_build_chunk, root, config, task): task for task in tasks
        }
        try:
            yield from ((futures[future], future.result()) for future in as_completed(futures))
        except BrokenProcessPool as error:
            raise PolysenseError(
                "a worker process was ended from outside", where=root,
                fix="Build again: what is missing is completed. If it recurs, use fewer workers; memory may be short.",
            ) from error  # fmt: skip
        finally:
            pool.shutdown(cancel_futures=True)


def _build_chunk(root: Path, config: WorldConfig, task: _Task) -> tuple[list[Row], dict[str, float]]:
    kind, split, first, end = task
    watch = Stopwatch()
    rows = [_BUILDERS[kind](root, config, split, index, watch) for index in range(first, end)]
    return rows, dict(watch.seconds)


def _write_manifests(
    root: Path, rows: Mapping[str, Mapping[str, Sequence[Row]]]
) -> tuple[dict[str, int], dict[str, str]]:
    manifests = {f"{kind}-{split}": list(rows[split][kind]) for kind in KINDS for split in SPLITS}
    manifests |= {name: draw(subset, rows[subset.split]) for name, subset in SUBSETS.items()}
    (root / "manifests").mkdir(exist_ok=True)
    digests = {}
    for name, content in manifests.items():
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in content)
        _write_atomically(root / "manifests" / f"{name}.jsonl", text)
        digests[name] = hashlib.sha256(text.encode()).hexdigest()
    return {name: len(content) for name, content in manifests.items()}, digests


def _write_atomically(path: Path, text: str) -> None:
    partial = path.with_name(f".{path.name}.partial")
    with partial.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(partial, path)
