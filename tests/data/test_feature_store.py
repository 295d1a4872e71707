from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save
from torch import Tensor

from polysense.data.feature_store import FeatureStore
from polysense.errors import CheckpointError, ManifestError, MediaError, QuotaExceededError
from polysense.storage import FileSystem


def made(value: float, steps: int = 2) -> Callable[[], Tensor]:
    return lambda: torch.full((steps, 3), value)


def unusable() -> Tensor:
    raise MediaError("is empty", where="c.flac", fix="Drop it.")


def never() -> Tensor:
    raise AssertionError("computed again")


def test_sequences_come_back_under_their_samples(tmp_path: Path) -> None:
    store = FeatureStore(tmp_path, "k" * 30, {"sense": "audio"})
    assert store.fill({"a": made(1), "b": made(2, steps=3)}) == 2
    assert "a" in store and "z" not in store and sorted(store) == ["a", "b"] and len(store) == 2
    assert store["b"].shape == (3, 3) and store["b"].dtype == torch.float32 and store["b"][0, 0] == 2
    assert json.loads((tmp_path / ("k" * 24) / "about.json").read_text()) == {"sense": "audio"}


def test_what_is_there_is_not_computed_again(tmp_path: Path) -> None:
    FeatureStore(tmp_path, "key").fill({"a": made(1)})
    store = FeatureStore(tmp_path, "key")
    assert store.fill({"a": never, "b": made(2)}) == 1 and store["a"][0, 0] == 1
    assert len(FeatureStore(tmp_path, "other")) == 0


def test_a_run_that_was_stopped_keeps_what_it_had_written(tmp_path: Path) -> None:
    def stop() -> Tensor:
        raise KeyboardInterrupt

    wanted = {"a": made(1), "b": made(2), "c": made(3), "d": stop}
    with pytest.raises(KeyboardInterrupt):
        FeatureStore(tmp_path, "key").fill(wanted, shard_bytes=2 * 24)
    store = FeatureStore(tmp_path, "key")
    assert sorted(store) == ["a", "b"]
    assert store.fill({**wanted, "a": never, "b": never, "d": made(4)}) == 2 and store["d"][0, 0] == 4


def test_unusable_files_are_skipped_counted_and_tried_again(tmp_path: Path) -> None:
    store = FeatureStore(tmp_path, "key")
    assert store.fill({"a": made(1), "c": unusable}) == 1
    assert store.skipped.keys() == {"c"} and "is empty" in FeatureStore(tmp_path, "key").skipped["c"]
    with pytest.raises(ManifestError, match=r"c: there are no features of the sample \(c\.flac: is empty"):
        store["c"]
    files = set(tmp_path.rglob("*"))
    assert store.fill({"a": never, "c": unusable}) == 0 and set(tmp_path.rglob("*")) == files
    assert (
        store.fill({"a": never, "c": made(3)}) == 1 and not store.skipped and not FeatureStore(tmp_path, "key").skipped
    )


def test_features_that_are_not_finite_are_skipped(tmp_path: Path) -> None:
    store = FeatureStore(tmp_path, "key")
    store.fill({"a": made(1), "b": made(float("nan"))})
    assert "not finite" in store.skipped["b"]


def test_too_many_unusable_files_stop_the_extraction_and_lose_nothing(tmp_path: Path) -> None:
    store = FeatureStore(tmp_path, "key")
    with pytest.raises(QuotaExceededError, match="2 of 3 samples"):
        store.fill({"a": made(1), "b": unusable, "c": unusable})
    assert "a" in FeatureStore(tmp_path, "key")


def test_sixteen_bits_are_read_as_thirty_two(tmp_path: Path) -> None:
    store = FeatureStore(tmp_path, "key")
    store.fill({"a": made(1 / 3)}, half=True)
    assert store["a"].dtype == torch.float32 and store["a"][0, 0] == torch.tensor(1 / 3).half().float()
    store.fill({"a": made(1 / 3), "b": made(1e6)}, half=True)
    assert "b" not in store and "not finite as float16" in store.skipped["b"], "no infinity is stored"
    store.fill({"b": made(1e6)})
    assert store["b"][0, 0] == 1e6


def test_damage_is_noticed_at_the_latest_when_a_sequence_is_used(tmp_path: Path) -> None:
    FeatureStore(tmp_path, "key").fill({"a": made(1)})
    (path,) = tmp_path.rglob("*.safetensors")
    whole = path.read_bytes()
    path.write_bytes(whole[:-1] + b"\x01")
    with pytest.raises(CheckpointError, match="SHA-256 differs"):
        FeatureStore(tmp_path, "key")["a"]
    path.write_bytes(whole[:-1])
    with pytest.raises(CheckpointError, match="Delete the file: its features are then extracted again"):
        FeatureStore(tmp_path, "key")


@pytest.mark.parametrize("skipped", ["[1, 2]", "7", "no JSON"])
def test_a_file_that_is_not_of_a_store_is_named(tmp_path: Path, skipped: str) -> None:
    (tmp_path / "key").mkdir()
    (tmp_path / "key/a.safetensors").write_bytes(save({"a": torch.ones(2, 3)}, metadata={"skipped": skipped}))
    with pytest.raises(CheckpointError, match=r"a\.safetensors: cannot be read"):
        FeatureStore(tmp_path, "key")


@pytest.mark.parametrize("written", [0, 1], ids=["what the store is about", "sequences"])
def test_a_full_disk_leaves_what_was_there(tmp_path: Path, written: int) -> None:
    left = written

    class Full(FileSystem):
        def write(self, path: Path, data: bytes) -> None:
            nonlocal left
            left -= 1
            super().write(path, data if left >= 0 else data[:3])
            if left < 0:
                raise OSError(28, "No space left on device")

    FeatureStore(tmp_path, "key").fill({"a": made(1)})
    files = set(tmp_path.rglob("*"))
    with pytest.raises(CheckpointError, match="No space left"):
        FeatureStore(tmp_path, "key", files=Full()).fill({"b": made(2)})
    assert sorted(FeatureStore(tmp_path, "key")) == ["a"] and set(tmp_path.rglob("*")) == files


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "store").write_text("a file")
    with pytest.raises(CheckpointError, match=r"store/key/about\.json: features cannot be written"):
        FeatureStore(tmp_path / "store", "key").fill({"a": made(1)})
