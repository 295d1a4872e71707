from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import re
import signal
from pathlib import Path

import pytest

from polysense.errors import ConfigError, FolderInUseError, ManifestError, MediaError, PolysenseError
from polysense.world import WorldConfig, WorldSummary, build, build_world, load_world, manifest_digests, verify_world
from polysense.world.config import KINDS, SPLITS

SMALL = WorldConfig(size="small", counts={"stills": {"train": 3}, "clips": {"train": 1}})


def _digest(folder: Path) -> str:
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != "world.json")
    return hashlib.sha256(
        b"".join(str(path.relative_to(folder)).encode() + path.read_bytes() for path in files)
    ).hexdigest()


def test_a_world_loads_as_it_was_built_and_verifies(world: WorldSummary) -> None:
    assert load_world(world.directory) == world
    assert verify_world(world.directory) > 100
    assert set(world.build_seconds) >= {"image", "depth", "thermal", "point_cloud", "video", "audio", "text"}


def test_counts_are_those_of_the_config(world: WorldSummary) -> None:
    for kind in KINDS:
        for split in SPLITS:
            name = f"{kind}-{split}"
            assert world.counts[name] == world.config.count(kind, split)
            assert len(world.manifest(name).read_text().splitlines()) == world.counts[name]


def test_content_depends_on_neither_workers_nor_place_nor_time(tmp_path: Path) -> None:
    for name, workers in (("a", 1), ("b", 2)):
        build_world(tmp_path / name, SMALL, workers=workers, progress=False)
    assert _digest(tmp_path / "a") == _digest(tmp_path / "b")


def test_samples_do_not_depend_on_how_many_there_are(tmp_path: Path, world: WorldSummary) -> None:
    build_world(tmp_path, SMALL, workers=1, progress=False)
    for name in ("still-train-000002.png", "clip-train-000000.png"):
        assert (tmp_path / "media/image" / name).read_bytes() == (world.directory / "media/image" / name).read_bytes()


def test_building_again_changes_nothing(world: WorldSummary) -> None:
    before = (world.directory / "world.json").stat().st_mtime_ns
    assert build_world(world.directory, world.config) == world
    assert (world.directory / "world.json").stat().st_mtime_ns == before


def test_a_folder_with_another_world_or_other_files_is_refused(world: WorldSummary, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="holds a world of another configuration"):
        build_world(world.directory, SMALL)
    (tmp_path / "thesis.txt").write_text("precious")
    with pytest.raises(ConfigError, match="not empty and holds no world"):
        build_world(tmp_path, SMALL)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_an_interrupted_build_is_no_world_and_is_completed_by_the_same_config_only(tmp_path: Path) -> None:
    folder = tmp_path / "world"
    build_world(folder, SMALL, workers=1, progress=False)
    complete = _digest(folder)
    (folder / "world.json").unlink()
    (folder / ".building.json").write_text(SMALL.content_hash)
    (folder / "media/image/still-train-000001.png").write_bytes(b"half a file")
    with pytest.raises(ManifestError, match="no finished world"):
        load_world(folder)
    with pytest.raises(ConfigError, match="unfinished world of another configuration"):
        build_world(folder, WorldConfig(size="tiny"))
    build_world(folder, SMALL, workers=1, progress=False)
    assert _digest(folder) == complete


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    for folder in (Path("/proc/nope"), tmp_path / "file/world"):
        with pytest.raises(ConfigError, match=f"{folder}: it cannot be written"):
            build_world(folder, SMALL, progress=False)

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setitem(build._BUILDERS, "clips", full)
    with pytest.raises(ConfigError, match=r"world: it cannot be written \(No space left"):
        build_world(tmp_path / "world", SMALL, workers=2, progress=False)
    assert not (tmp_path / "world/world.json").exists()


def test_two_builders_do_not_share_a_folder(tmp_path: Path) -> None:
    with (tmp_path / ".building.json").open("a+") as mark:
        fcntl.flock(mark, fcntl.LOCK_EX)
        with pytest.raises(FolderInUseError, match="another process is building"):
            build_world(tmp_path, SMALL, progress=False)


def test_altered_and_missing_files_are_named(tmp_path: Path) -> None:
    build_world(tmp_path, SMALL, workers=1, progress=False)
    victim = tmp_path / "media/depth/still-train-000000.png"
    content = victim.read_bytes()
    victim.write_bytes(content[:-1] + b"x")
    with pytest.raises(MediaError, match=r"still-train-000000.png: the file is missing or differs"):
        verify_world(tmp_path)
    victim.write_bytes(content)
    (tmp_path / "manifests/train-depth.jsonl").write_text("")
    with pytest.raises(ManifestError, match=r"train-depth.jsonl: the manifest is missing or differs"):
        verify_world(tmp_path)


def test_digests_of_manifests_tell_of_words_and_not_of_bits(tmp_path: Path) -> None:
    world = build_world(tmp_path, SMALL, workers=1, progress=False)
    digests, path = manifest_digests(world), world.manifest("stills-train")
    assert digests.keys() == world.counts.keys()
    text = path.read_text()
    sums = re.sub(r'"sha256": "\w+"', '"sha256": "0"', text)
    path.write_text(sums)
    assert sums != text and manifest_digests(world) == digests
    path.write_text(text.replace('"labels"', '"lables"', 1))
    changed = manifest_digests(world)
    assert {name for name in digests if digests[name] != changed[name]} == {"stills-train"}
    for broken in ("{}\n", "[1]\n", "{"):
        path.write_text(broken)
        with pytest.raises(ManifestError, match=r"stills-train\.jsonl: the manifest cannot be read"):
            manifest_digests(world)


def test_a_damaged_or_foreign_summary_is_refused(tmp_path: Path) -> None:
    build_world(tmp_path, SMALL, workers=1, progress=False)
    summary = tmp_path / "world.json"
    values = json.loads(summary.read_text())
    summary.write_text(json.dumps(values | {"version": 0}))
    with pytest.raises(ManifestError, match="made by version 0"):
        load_world(tmp_path)
    summary.write_text("{")
    with pytest.raises(ManifestError, match=r"world.json cannot be read"):
        load_world(tmp_path)


def test_an_unknown_manifest_is_refused_with_those_there_are(world: WorldSummary) -> None:
    with pytest.raises(ConfigError, match=r"no manifest 'train-smell'.*stills-train"):
        world.manifest("train-smell")


def _die(*_: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_killed_worker_is_reported_and_leaves_no_world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(build._BUILDERS, "clips", _die)
    with pytest.raises(PolysenseError, match=r"a worker process was ended from outside.*Build again"):
        build_world(tmp_path, SMALL, workers=2, progress=False)
    assert not (tmp_path / "world.json").exists()
    monkeypatch.undo()
    assert build_world(tmp_path, SMALL, workers=2, progress=False).counts["clips-train"] == 1
