"""Files and data sets as codes, and the extractors beside a checkpoint."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from polysense.data import MediaRef, Sample
from polysense.data.feature_store import FeatureStore
from polysense.errors import CheckpointError, ConfigError, ManifestError, MediaError, UnknownModalityError
from polysense.processing import Fit, fit_steps
from polysense.recipes.comet_codes import CometReader, SavedExtractors, SequenceReader, save_extractors
from polysense.recipes.feature_pairs import ExtractorSettings
from tests.models.comet.tiny import SENSES, tiny_comet

DIM = SENSES["audio"]["feature_dim"]


@dataclass(frozen=True)
class Arrays:
    """Sounds as files with a sequence each, under one id."""

    paths: Sequence[Path]

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Sample:
        return Sample("the same id", {"audio": MediaRef(self.paths[index])})

    def labels(self, modality: str) -> Sequence[str | None]:
        return [None] * len(self)


class Reading:
    """An extractor that counts what it reads."""

    def __init__(self, fit: Fit = "cut") -> None:
        self.key, self.calls, self.fit = {"name": "reading"}, 0, fit

    def __call__(self, source: Any, facts: Any = None) -> torch.Tensor:
        return fit_steps(self.whole(source, facts), 5, self.fit)

    def whole(self, source: Any, facts: Any = None) -> torch.Tensor:
        self.calls += 1
        return torch.from_numpy(np.load(source)).float()

    def assumed(self, facts: Mapping[str, Any]) -> Mapping[str, Any]:
        return {"gain": 1, **facts}


@pytest.fixture
def files(tmp_path: Path) -> Arrays:
    rng = np.random.default_rng(0)
    paths = [tmp_path / f"{number}.npy" for number in range(3)]
    for number, path in enumerate(paths):
        np.save(path, rng.normal(size=(3 + number, DIM)).astype(np.float32))
    return Arrays(paths)


def reader(extractor: Any, folder: Path | None = None) -> CometReader:
    store = None if folder is None else lambda sense: FeatureStore(folder, sense * 8)
    return CometReader(tiny_comet("audio", "text"), lambda sense: extractor, 5, store)


@pytest.mark.parametrize("kept", [False, True])
def test_a_data_set_is_read_once_in_its_order(files: Arrays, tmp_path: Path, kept: bool) -> None:
    extractor = Reading()
    made = reader(extractor, tmp_path / "store" if kept else None)
    codes = made("audio", files)
    assert len(codes) == 3 and codes.steps.sum(dim=1).tolist() == [3, 4, 5]
    one = made.codes("audio", files.paths[1])
    assert codes.indices is not None and torch.equal(codes.indices[1, :4], one.indices[0, :4])
    assert extractor.calls == 4
    made("audio", files)
    (reader(extractor, tmp_path / "store") if kept else made)("audio", files)
    assert extractor.calls == 4


def test_a_timeline_has_the_seconds_that_a_file_has(files: Arrays, tmp_path: Path) -> None:
    whole = reader(Reading("repeat"))
    short = whole.timeline("audio", files.paths[0])
    assert whole.assumed("audio", {"gain": 2}) == {"gain": 2}
    assert len(short) == 3 and short == whole.codes("audio", files.paths[0]).indices[0, :3].tolist()
    np.save(tmp_path / "long.npy", np.concatenate([np.load(files.paths[2]), np.load(files.paths[0])]))
    joined = [*whole.timeline("audio", files.paths[2]), *short]
    assert len(joined) == 8 and whole.timeline("audio", tmp_path / "long.npy") == joined
    spans = reader(Reading("resample"))
    assert spans.timeline("audio", files.paths[0]) == spans.codes("audio", files.paths[0]).indices[0].tolist()


def test_a_text_may_lie_in_a_file(tmp_path: Path) -> None:
    told = []

    def whole(source: Any, facts: Any = None) -> torch.Tensor:
        told.append(source)
        return torch.randn(3, SENSES["text"]["feature_dim"])

    made = CometReader(tiny_comet("audio", "text"), lambda sense: SimpleNamespace(whole=whole, fit="cut"), 5)
    (tmp_path / "words.txt").write_text("a bell rings", encoding="utf-8")
    for source in (tmp_path / "words.txt", b"a bell rings", "a bell rings", ["a bell", "rings"]):
        made.timeline("text", source)
    assert told == [("a bell rings",)] * 3 + [("a bell", "rings")]
    (tmp_path / "words.txt").write_bytes(b"\xff\xfe")
    with pytest.raises(MediaError, match=r"words\.txt"):
        made.timeline("text", tmp_path / "words.txt")


def test_sequences_without_codes_are_the_files_themselves(files: Arrays, tmp_path: Path) -> None:
    extractor, folder = Reading(), tmp_path / "store"
    made = SequenceReader(lambda sense: extractor, 5, lambda sense: FeatureStore(folder, sense * 8))
    found = made("audio", files)
    assert found.indices is None and found.vectors.shape == (3, 5, DIM)
    assert found.steps.sum(dim=1).tolist() == [3, 4, 5] and not found.vectors[0, 3:].any()
    assert torch.equal(found.vectors[2], torch.from_numpy(np.load(files.paths[2])))
    reader(extractor, folder)("audio", files)
    assert extractor.calls == 3, "codes are made of the same sequences"


def test_a_file_that_changed_is_read_again(files: Arrays, tmp_path: Path) -> None:
    extractor = Reading()
    made = reader(extractor, tmp_path / "store")
    made("audio", files)
    np.save(files.paths[0], np.ones((5, DIM), dtype=np.float32))
    assert made("audio", files).steps.sum(dim=1).tolist() == [5, 4, 5] and extractor.calls == 4


def test_what_cannot_be_read_is_named(files: Arrays, tmp_path: Path) -> None:
    made = reader(Reading())
    with pytest.raises(UnknownModalityError, match="smell"):
        made.codes("smell", files.paths[0])
    with pytest.raises(ManifestError, match="no media of modality 'text'"):
        made("text", files)
    with pytest.raises(MediaError, match="cannot be read"):
        made("audio", Arrays([tmp_path / "absent.npy"]))


def test_nets_are_copied_once_and_those_of_the_hub_are_named(tmp_path: Path) -> None:
    for name in ("nets/ear", "elsewhere/ear"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "config.json").write_text(json.dumps({"name": name}))
    other = str(tmp_path / "elsewhere/ear")
    saved = SavedExtractors(steps=4, extractors={
        "audio": ExtractorSettings(encoder="ear"), "speech": ExtractorSettings(encoder="ear", fit="cut"),
        "video": ExtractorSettings(encoder=other), "text": ExtractorSettings(language_model="me/words"),
        "depth": ExtractorSettings(stored={"channels": 3}),
    })  # fmt: skip
    folder = tmp_path / "stage"
    folder.mkdir()
    save_extractors(saved, tmp_path / "nets", folder)
    written = json.loads((folder / "extractors.json").read_text())
    named = {sense: each["encoder"] or each["language_model"] for sense, each in written["extractors"].items()}
    assert named == {"audio": "ear", "speech": "ear", "video": "ear-1", "text": "me/words", "depth": None}
    assert json.loads((folder / "nets/ear-1/config.json").read_text()) == {"name": "elsewhere/ear"}
    assert written["steps"] == 4 and len(list((folder / "nets").iterdir())) == 2


def test_a_damaged_list_of_extractors_is_refused(tmp_path: Path) -> None:
    tiny_comet("audio", "text").save_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match="no COMET model with extractors"):
        CometReader.from_pretrained(tmp_path)
    (tmp_path / "extractors.json").write_text(json.dumps({"steps": 5, "extractors": {"audio": {"net": "x"}}}))
    with pytest.raises(ConfigError, match="unknown key 'net'"):
        CometReader.from_pretrained(tmp_path)
