"""Frozen tokens on disk: computed once whoever asks, and never taken for another file's."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save
from torch import Tensor

from polysense.models.mera.token_store import FrozenTokenStore

ENCODING, OTHER = "a" * 64, "b" * 64


class Encoder:
    """Counts how often it is asked."""

    def __init__(self, value: float = 1.0) -> None:
        self.calls, self.value = 0, value

    def __call__(self) -> Tensor:
        self.calls += 1
        return torch.full((2, 3, 4), self.value)


def files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "a.png"
    path.write_bytes(b"picture")
    return path


def test_another_store_of_the_same_folder_computes_nothing(source: Path, tmp_path: Path) -> None:
    encoder = Encoder(0.5)
    first = FrozenTokenStore(tmp_path / "store").get(ENCODING, source, {}, encoder)
    again = FrozenTokenStore(tmp_path / "store").get(ENCODING, source, {}, encoder)
    assert encoder.calls == 1 and torch.equal(first, again) and again.shape == (2, 3, 4)
    assert [path.suffix for path in files(tmp_path / "store")] == [".safetensors"]


def test_a_copy_of_a_file_is_that_file_and_a_changed_one_is_not(source: Path, tmp_path: Path) -> None:
    store, encoder = FrozenTokenStore(tmp_path / "store"), Encoder()
    copy = tmp_path / "b.png"
    copy.write_bytes(source.read_bytes())
    for path in (source, copy):
        store.get(ENCODING, path, {}, encoder)
    assert encoder.calls == 1
    source.write_bytes(b"another picture")
    store.get(ENCODING, source, {}, encoder)
    assert encoder.calls == 2


def test_another_encoder_or_other_facts_have_tokens_of_their_own(source: Path, tmp_path: Path) -> None:
    store, encoder = FrozenTokenStore(tmp_path / "store"), Encoder()
    store.get(ENCODING, source, {}, encoder)
    store.get(OTHER, source, {}, encoder)
    store.get(ENCODING, source, {"baseline": 0.1}, encoder)
    assert encoder.calls == 3 and len(files(tmp_path / "store")) == 3


@pytest.mark.parametrize(
    "damage",
    [
        lambda whole: whole[:-9],
        lambda whole: whole[:-1] + bytes([whole[-1] ^ 1]),
        lambda whole: b"",
        lambda whole: save({"tokens": torch.zeros(2, 3, 4)}, metadata={"sha256": "another file's"}),
    ],
    ids=["cut", "flipped", "emptied", "exchanged"],
)
def test_a_damaged_file_is_named_and_computed_again(
    damage: Callable[[bytes], bytes], source: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store, encoder = FrozenTokenStore(tmp_path / "store"), Encoder()
    wanted = store.get(ENCODING, source, {}, encoder)
    (path,) = files(tmp_path / "store")
    path.write_bytes(damage(path.read_bytes()))
    with caplog.at_level(logging.WARNING):
        assert torch.equal(store.get(ENCODING, source, {}, encoder), wanted)
    assert str(path) in caplog.text
    store.get(ENCODING, source, {}, encoder)
    assert encoder.calls == 2


def test_files_of_the_time_before_checksums_serve_on(source: Path, tmp_path: Path) -> None:
    store, encoder = FrozenTokenStore(tmp_path / "store"), Encoder()
    store.get(ENCODING, source, {}, encoder)
    (path,) = files(tmp_path / "store")
    path.write_bytes(save({"tokens": torch.full((2, 3, 4), 7.0)}))
    assert store.get(ENCODING, source, {}, encoder)[0, 0, 0] == 7 and encoder.calls == 1


def test_what_does_not_fit_is_computed_and_not_kept(source: Path, tmp_path: Path) -> None:
    store, encoder = FrozenTokenStore(tmp_path / "store", limit=95), Encoder()  # 24 numbers are 96 bytes
    for _ in range(2):
        store.get(ENCODING, source, {}, encoder)
    assert encoder.calls == 2 and not files(tmp_path / "store")


def test_who_may_read_the_folder_may_read_its_tokens(source: Path, tmp_path: Path) -> None:
    FrozenTokenStore(tmp_path / "store").get(ENCODING, source, {}, Encoder())
    (kept,) = files(tmp_path / "store")
    assert kept.stat().st_mode & 0o777 == kept.parent.stat().st_mode & 0o666


def test_a_disk_that_takes_nothing_leaves_the_run_as_it_was(
    source: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    store, encoder = FrozenTokenStore(tmp_path / "store"), Encoder()
    for _ in range(2):
        assert store.get(ENCODING, source, {}, encoder).shape == (2, 3, 4)
    assert caplog.text.count("no further tokens are kept") == 1 and not files(tmp_path / "store")


@pytest.mark.parametrize("fault", [PermissionError(13, "Permission denied"), None], ids=["read-only", "a file"])
def test_a_folder_that_cannot_be_made_leaves_the_run_as_it_was(
    fault: OSError | None, source: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    def mkdir(*_: object, **__: object) -> None:
        raise fault or AssertionError

    if fault is not None:
        monkeypatch.setattr(Path, "mkdir", mkdir)
    store, encoder = FrozenTokenStore(tmp_path / "store" if fault else source), Encoder()
    for _ in range(2):
        assert store.get(ENCODING, source, {}, encoder).shape == (2, 3, 4)
    assert caplog.text.count("no further tokens are kept") == len(caplog.records) == 1


def test_a_file_that_cannot_be_read_is_left_to_the_processor(tmp_path: Path) -> None:
    encoder = Encoder()
    FrozenTokenStore(tmp_path / "store").get(ENCODING, tmp_path / "none.png", {}, encoder)
    assert encoder.calls == 1 and not (tmp_path / "store").exists()
