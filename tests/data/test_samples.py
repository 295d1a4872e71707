from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest

from polysense.data import MediaRef, Sample, Subset
from polysense.errors import ManifestError
from polysense.testing.toy import ToyDataset


def test_bytes_open_as_a_file_and_everything_else_as_it_is() -> None:
    opened = MediaRef(b"RIFF").open()
    assert isinstance(opened, io.BytesIO) and opened.read() == b"RIFF"
    assert MediaRef(Path("a.png")).open() == Path("a.png")
    array = np.zeros(3)
    assert MediaRef(array).open() is array


def test_a_reference_names_its_file_but_never_prints_its_content() -> None:
    assert str(MediaRef(Path("media/a.png"))) == "media/a.png"
    assert str(MediaRef(b"secret")) == "bytes in memory"


def test_a_missing_modality_is_named_with_the_sample() -> None:
    sample = Sample("dog-1", {"image": MediaRef(Path("a.png"))})
    with pytest.raises(ManifestError, match=r"dog-1: .*'audio', only image"):
        sample.ref("audio")


def test_a_missing_file_is_named_with_its_row_and_nothing_else_is_looked_for(tmp_path: Path) -> None:
    (tmp_path / "a.png").touch()
    media = {"image": tmp_path / "a.png", "depth": tmp_path / "b.png", "audio": b"RIFF"}
    sample = Sample("dog-1", {modality: MediaRef(source) for modality, source in media.items()})
    sample.check_files(["image", "audio", "video"])
    with pytest.raises(ManifestError, match=r"^dog-1: media\.depth: .*b\.png does not exist"):
        sample.check_files(["depth"])


def test_a_subset_keeps_the_order_of_its_indices() -> None:
    subset = Subset(ToyDataset("audio", 9), (4, 0))
    assert [subset[i].id for i in range(len(subset))] == ["audio-4", "audio-0"]
    assert subset.labels("audio") == ["class 1", "class 0"]
