from __future__ import annotations

import errno
import json
import logging
import os
import resource
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer
from tokenizers.models import WordLevel

from polysense.errors import CheckpointError, ConfigError, UnsafeFileError
from polysense.storage import (
    MANIFEST,
    FileSystem,
    atomic_folder,
    check_writable,
    digest,
    fingerprint,
    read_manifest,
    read_verified,
    verify_folder,
    write_manifest,
    write_whole,
    writing,
)


class Broken(FileSystem):
    """Fails every call of one operation."""

    def __init__(self, operation: str) -> None:
        def fail(*_: object) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        setattr(self, operation, fail)


def make(target: Path, text: str = "weights", files: FileSystem | None = None) -> None:
    with atomic_folder(target, details={"stage": 1}, needed_bytes=len(text), files=files) as folder:
        (folder / "sub").mkdir()
        (folder / "sub/model.txt").write_text(text)


def test_a_folder_appears_whole_with_its_manifest(tmp_path: Path) -> None:
    with atomic_folder(tmp_path / "runs/stage-1", details={"stage": 1}) as folder:
        (folder / "model.txt").write_text("weights")
        assert not (tmp_path / "runs/stage-1").exists()
    manifest = verify_folder(tmp_path / "runs/stage-1", required=("model.txt",))
    assert manifest["files"] == {"model.txt": {"sha256": digest(b"weights"), "size": 7}}
    assert manifest["details"] == {"stage": 1} and "torch" in manifest["versions"]
    assert sorted(path.name for path in (tmp_path / "runs").iterdir()) == ["stage-1"]


def test_an_existing_folder_is_replaced(tmp_path: Path) -> None:
    make(tmp_path / "stage", "first")
    make(tmp_path / "stage", "second")
    assert read_verified(tmp_path / "stage")[1] == {"sub/model.txt": b"second"}
    assert [path.name for path in tmp_path.iterdir()] == ["stage"]


def test_an_error_inside_leaves_everything_as_it_was(tmp_path: Path) -> None:
    make(tmp_path / "stage", "first")
    with pytest.raises(ConfigError), atomic_folder(tmp_path / "stage") as folder:
        (folder / "half.txt").write_text("half")
        raise ConfigError("changed my mind")
    assert read_verified(tmp_path / "stage")[1] == {"sub/model.txt": b"first"}
    assert [path.name for path in tmp_path.iterdir()] == ["stage"]


@pytest.mark.parametrize("operation", ["make_folder", "write", "sync", "replace"])
def test_a_full_disk_says_how_much_is_needed_and_keeps_what_was_there(tmp_path: Path, operation: str) -> None:
    make(tmp_path / "stage", "first")
    with pytest.raises(CheckpointError, match=r"No space left on device; 6 bytes are needed, [\d,]+ are free"):
        make(tmp_path / "stage", "second", Broken(operation))
    assert read_verified(tmp_path / "stage")[1] == {"sub/model.txt": b"first"}
    assert [path.name for path in tmp_path.iterdir()] == ["stage"]


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """The system refuses to write files beyond a size, as it does on a disk that is full."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def saves_weights(folder: Path) -> None:
    save_file({"weight": torch.zeros(10_000)}, folder / "model.safetensors")


def saves_words(folder: Path) -> None:
    Tokenizer(WordLevel({str(number): number for number in range(9000)}, "0")).save(str(folder / "tokenizer.json"))


@pytest.mark.parametrize("save", [saves_weights, saves_words])
def test_what_the_disk_refuses_to_other_libraries_is_told_alike(save: Callable[[Path], None], tmp_path: Path) -> None:
    with (
        files_of_at_most(20_000),
        pytest.raises(CheckpointError, match=r"could not be written \(File too large\)") as caught,
        atomic_folder(tmp_path / "run") as folder,
    ):
        save(folder)
    assert caught.value.where == str(tmp_path / "run") and not list(tmp_path.iterdir())
    with files_of_at_most(20_000), pytest.raises(ConfigError, match="File too large"), writing(tmp_path):
        save(tmp_path)


@pytest.mark.parametrize(("mask", "mode"), [(0o022, 0o644), (0o007, 0o660), (0o077, 0o600)])
def test_files_are_for_those_whom_the_umask_lets_read(mask: int, mode: int, tmp_path: Path) -> None:
    before = os.umask(mask)
    try:
        with atomic_folder(tmp_path / "stage") as folder:
            saves_weights(folder)
            (folder / "sub").mkdir()
            saves_weights(folder / "sub")
    finally:
        os.umask(before)
    found = {path.stat().st_mode & 0o777 for path in (tmp_path / "stage").rglob("*") if path.is_file()}
    assert found == {mode}


def test_an_error_that_is_not_the_disks_is_left_alone() -> None:
    with pytest.raises(CheckpointError, match="the disk"), writing(Path("run")):
        raise CheckpointError("the disk is full (os error 28)", where="elsewhere", fix="Make room.")
    with pytest.raises(KeyError), writing(Path("run")):
        raise KeyError("run")


def test_what_cannot_be_removed_is_left_with_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    make(tmp_path / "stage", "first")
    with caplog.at_level(logging.WARNING):
        make(tmp_path / "stage", "second", Broken("remove_folder"))
    assert "left over" in caplog.text
    assert read_verified(tmp_path / "stage")[1] == {"sub/model.txt": b"second"}


def test_what_a_killed_process_left_is_cleared_away(tmp_path: Path) -> None:
    make(tmp_path / "stage", "first")
    (tmp_path / "stage").rename(tmp_path / ".stage.old")
    (tmp_path / ".stage.tmp").mkdir()
    (tmp_path / ".stage.tmp/half").touch()
    with pytest.raises(ConfigError), atomic_folder(tmp_path / "stage"):
        raise ConfigError("never mind")
    assert [path.name for path in tmp_path.iterdir()] == ["stage"]
    assert read_verified(tmp_path / "stage")[1] == {"sub/model.txt": b"first"}


def test_damage_is_named(tmp_path: Path) -> None:
    path = tmp_path / "stage/sub/model.txt"
    for content, message in (
        (b"weight", "has 6 bytes, not 7"),
        (b"Weights", "SHA-256 differs"),
        (None, "cannot be read"),
    ):
        make(tmp_path / "stage")
        path.unlink()
        if content is not None:
            path.write_bytes(content)
        for check in (verify_folder, read_verified):
            with pytest.raises(CheckpointError, match=rf"sub/model\.txt: .*{message}"):
                check(tmp_path / "stage")


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"{}", b"3", b'{"sha256": 1, "files": [], "format": 1}'])
def test_what_is_no_manifest_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / MANIFEST).write_bytes(content)
    with pytest.raises(CheckpointError, match=r"MANIFEST\.json"):
        read_manifest(tmp_path)


@pytest.mark.parametrize(
    "change",
    [{"files": ["model.txt"]}, {"files": {"model.txt": None}}, {"files": {"model.txt": {"size": 7}}},
     {"details": None}, {"files": {"a\0b": {"size": 1, "sha256": ""}}}],
    ids=["no table", "no entry", "no digest", "no details", "no name"],
)  # fmt: skip
def test_a_manifest_with_a_right_checksum_may_still_be_none(tmp_path: Path, change: dict[str, object]) -> None:
    make(tmp_path / "stage")
    path = tmp_path / "stage" / MANIFEST
    content = {**json.loads(path.read_text()), **change}
    del content["sha256"]
    content["sha256"] = digest(json.dumps(content, sort_keys=True, separators=(",", ":")).encode())
    path.write_text(json.dumps(content))
    for check in (verify_folder, read_verified, read_manifest):
        with pytest.raises((CheckpointError, UnsafeFileError), match=r"MANIFEST\.json"):
            check(tmp_path / "stage")


def test_a_changed_manifest_and_a_missing_one_are_refused(tmp_path: Path) -> None:
    make(tmp_path / "stage")
    path = tmp_path / "stage" / MANIFEST
    path.write_text(path.read_text().replace('"stage": 1', '"stage": 2'))
    with pytest.raises(CheckpointError, match="was changed after it was written"):
        read_manifest(tmp_path / "stage")
    path.unlink()
    with pytest.raises(CheckpointError, match=r"MANIFEST\.json: cannot be read \(No such file"):
        read_manifest(tmp_path / "stage")


def test_required_files_must_be_listed(tmp_path: Path) -> None:
    make(tmp_path / "stage")
    with pytest.raises(CheckpointError, match=r"lacks optimizer\.safetensors"):
        verify_folder(tmp_path / "stage", required=("sub/model.txt", "optimizer.safetensors"))


@pytest.mark.parametrize("name", ["/etc/passwd", "../secret", "sub/../../secret"])
def test_a_manifest_cannot_reach_outside_its_folder(tmp_path: Path, name: str) -> None:
    make(tmp_path / "stage")
    path = tmp_path / "stage" / MANIFEST
    content = json.loads(path.read_text())
    content.pop("sha256")
    content["files"][name] = {"sha256": "0", "size": 0}
    content["sha256"] = digest(json.dumps(content, sort_keys=True, separators=(",", ":")).encode())
    path.write_text(json.dumps(content))
    with pytest.raises(UnsafeFileError, match="the manifest names"):
        verify_folder(tmp_path / "stage")


def test_a_folder_written_by_others_can_get_a_manifest_afterwards(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    write_manifest(tmp_path)
    assert set(verify_folder(tmp_path)["files"]) == {"config.json"}


def test_a_file_is_written_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "new" / "a.json"
    write_whole(path, "first")
    monkeypatch.setattr(Path, "replace", lambda self, target: (_ for _ in ()).throw(OSError("full")))
    with pytest.raises(OSError, match="full"):
        write_whole(path, "second")
    assert path.read_text() == "first" and list(path.parent.iterdir()) == [path]


def test_processes_that_write_a_file_at_once_do_not_disturb_each_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, replace = tmp_path / "about.json", Path.replace

    def after_another(self: Path, target: Path) -> Path:
        monkeypatch.setattr(Path, "replace", replace)
        if (child := os.fork()) == 0:
            write_whole(path, "theirs")
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0 and path.read_text() == "theirs"
        return self.replace(target)

    monkeypatch.setattr(Path, "replace", after_another)
    write_whole(path, "ours")
    assert path.read_text() == "ours"


def test_a_pipe_is_written_to_and_stays_one(tmp_path: Path) -> None:
    pipe, read = tmp_path / "pipe", []
    os.mkfifo(pipe)
    reader = threading.Thread(target=lambda: read.append(pipe.read_text()))
    check_writable(pipe)
    reader.start()
    write_whole(pipe, "figures")
    reader.join(timeout=10)
    assert read == ["figures"] and pipe.is_fifo() and [each.name for each in tmp_path.iterdir()] == ["pipe"]


def test_a_link_stays_one_and_the_file_that_it_leads_to_is_written(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    link = tmp_path / "scores.json"
    link.symlink_to("there/scores.json")
    check_writable(link)
    write_whole(link, "figures")
    assert link.is_symlink() and (tmp_path / "there/scores.json").read_text() == "figures"


def test_a_fingerprint_is_the_manifests_or_that_of_all_files(tmp_path: Path) -> None:
    make(tmp_path / "ours")
    assert fingerprint(tmp_path / "ours") == read_manifest(tmp_path / "ours")["sha256"]
    (tmp_path / "ours/sub/model.txt").write_text("other")
    with pytest.raises(CheckpointError, match=r"model\.txt"):
        fingerprint(tmp_path / "ours")
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    (theirs / "model.txt").write_text("weights")
    (theirs / "README.md").write_text("one")
    before = fingerprint(theirs, ignore=("README.md",))
    (theirs / "README.md").write_text("two")
    assert fingerprint(theirs, ignore=("README.md",)) == before
    (theirs / "model.txt").rename(theirs / "weights.txt")
    assert fingerprint(theirs, ignore=("README.md",)) != before


def test_a_file_that_could_not_be_written_is_refused_beforehand(tmp_path: Path) -> None:
    check_writable(tmp_path / "new/scores.json")
    assert list((tmp_path / "new").iterdir()) == []
    (tmp_path / "file").write_text("kept")
    check_writable(tmp_path / "file")
    assert (tmp_path / "file").read_text() == "kept"
    for place, reason in ((tmp_path / "new", "Is a directory"), (tmp_path / "file/x.json", "File exists"),
                          (Path("/proc/nope/x.json"), "No such file")):  # fmt: skip
        with pytest.raises(ConfigError, match=f"{place}: it cannot be written .*{reason}"):
            check_writable(place)


def test_what_the_disk_refuses_names_the_place() -> None:
    with pytest.raises(ConfigError, match=r"runs: it cannot be written \(No space left"), writing(Path("runs")):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
