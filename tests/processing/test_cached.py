"""Samples that are kept in memory give the same features as samples that are decoded anew."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from polysense.errors import MediaError
from polysense.modality import get_modality
from polysense.processing import CachedFeatures, ModalityProcessor, processor_for


def picture(path: Path, seed: int) -> Path:
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (24, 24, 3), dtype=np.uint8)).save(path)
    return path


class Counting:
    """Hands out the processor of images and counts what it decodes."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.processor, self.decoded = processor_for(get_modality("image"), 16), 0
        plain = type(self.processor).load

        def load(processor: ModalityProcessor, *arguments: Any) -> Any:
            self.decoded += 1
            return plain(processor, *arguments)

        monkeypatch.setattr(type(self.processor), "load", load)

    def part(self, modality: str) -> ModalityProcessor:
        assert modality == "image"
        return self.processor


def generators(epoch: int) -> list[np.random.Generator]:
    return [np.random.default_rng((epoch, i)) for i in range(3)]


def test_later_epochs_decode_nothing_and_augment_as_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    counting = Counting(monkeypatch)
    files = [picture(tmp_path / f"{i}.png", i) for i in range(3)]
    cached = CachedFeatures(counting.part, limit=1 << 20)
    for epoch in range(3):
        expected = counting.processor(files, rngs=generators(epoch))
        counting.decoded = 0
        found = cached("image", files, rngs=generators(epoch))
        assert torch.equal(found["pixel_values"], expected["pixel_values"])
        assert counting.decoded == (0 if epoch else 3)


def test_what_exceeds_the_limit_is_decoded_each_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    counting = Counting(monkeypatch)
    files = [picture(tmp_path / f"{i}.png", i) for i in range(3)]
    cached = CachedFeatures(counting.part, limit=2 * 24 * 24 * 3)
    for _ in range(2):
        cached("image", files)
    assert counting.decoded == 3 + 1


def test_arrays_and_files_with_other_facts_are_not_confused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    counting = Counting(monkeypatch)
    file = picture(tmp_path / "a.png", 0)
    cached = CachedFeatures(counting.part, limit=1 << 20)
    cached("image", [file], facts=[{"a": 1}])
    cached("image", [file], facts=[{"a": 2}])
    array = np.zeros((24, 24, 3), dtype=np.uint8)
    cached("image", [array, array])
    assert counting.decoded == 4 and array.flags.writeable


def test_an_unusable_file_is_named_each_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cached = CachedFeatures(Counting(monkeypatch).part, limit=1 << 20)
    (tmp_path / "empty.png").write_bytes(b"")
    for _ in range(2):
        with pytest.raises(MediaError, match=r"empty\.png"):
            cached("image", [tmp_path / "empty.png"])
