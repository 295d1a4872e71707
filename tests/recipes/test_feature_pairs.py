"""Pairs of sequences, stage by stage."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path

import pytest
import torch

from polysense import UniAlignModel, UniAlignProcessor
from polysense.errors import ConfigError, ManifestError, QuotaExceededError
from polysense.models.encoders.extraction import read_whitening
from polysense.recipes.config import build
from polysense.recipes.feature_pairs import ExtractorSettings, PairRecipe, PairSettings, PairStages
from polysense.recipes.sources import DatasetSettings
from tests.recipes.features import pair_recipe, trained_nets
from tests.recipes.fixtures import Parts

SPOKEN = Path(__file__).parents[1] / "assets" / "spoken"


@pytest.fixture(scope="module")
def nets(parts: Parts, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained_nets(tmp_path_factory.getbasetemp() / "recipes", parts.world)


@pytest.fixture(scope="module")
def recipe(parts: Parts, nets: Path, tmp_path_factory: pytest.TempPathFactory) -> PairRecipe:
    return pair_recipe(parts.world, nets, tmp_path_factory.mktemp("sequences"))


def test_a_stage_gives_batches_of_its_pairs(recipe: PairRecipe) -> None:
    (batch,) = PairStages(recipe).mixture(["video-text"], seed=0).build(0)
    assert batch.features["video"]["sequence"].shape == (2, 10, 4, 4, 8)
    assert batch.features["text"]["sequence"].shape == (2, 10, 16)
    assert all(features["mask"].all() for features in batch.features.values())
    assert len(batch.samples[0].extra["seconds"]["video"]) == 10


def test_senses_other_than_text_can_be_paired(recipe: PairRecipe) -> None:
    pairs = PairStages(recipe).begin(["audio-video"])["audio-video"]
    assert pairs.senses == ("audio", "video") and set(pairs[0].media) == {"audio", "video"}
    (batch,) = PairStages(recipe).mixture(["audio-video"], seed=0).build(0)
    assert batch.features["audio"]["sequence"].shape == (2, 10, 8)


def test_beginning_a_stage_makes_the_data_of_earlier_ones_inaccessible(recipe: PairRecipe) -> None:
    stages = PairStages(recipe)
    first = stages.begin(["video-text"])["video-text"]
    kept = first[0]
    second = stages.begin(["audio-text"])["audio-text"]
    with pytest.raises(ManifestError, match="video and text: the data of a stage that is over"):
        first[0]
    assert set(second[0].media) == {"audio", "text"} and "video" not in second[0].media
    assert kept.id not in {second[index].id for index in range(len(second))}


def test_features_are_extracted_once(recipe: PairRecipe, caplog: pytest.LogCaptureFixture) -> None:
    PairStages(recipe).begin(["video-text"])
    before = sorted(Path(recipe.store).rglob("*.safetensors"))
    with caplog.at_level(logging.INFO, "polysense"):
        PairStages(recipe).begin(["video-text"])
    assert "extracted" not in caplog.text and sorted(Path(recipe.store).rglob("*.safetensors")) == before


def test_narrated_samples_have_a_step_per_second(recipe: PairRecipe) -> None:
    settings = PairSettings(senses=["video", "text"], narrated=0.2, data=recipe.pairs["audio-video"].data)
    dataset = settings.data.open(Path(recipe.data_root))
    narrated = [texts[0] for texts in settings.texts(dataset) or () if len(texts[0]) > 1]
    assert len(narrated) == round(0.2 * len(dataset)) and all(len(phrases) == 10 for phrases in narrated)


def test_unusable_files_are_skipped_up_to_the_quota(recipe: PairRecipe, tmp_path: Path) -> None:
    world = tmp_path / "world"
    shutil.copytree(recipe.data_root, world)
    sounds = sorted((world / "media/audio").glob("clip-train-*.flac"))
    sounds[0].write_bytes(b"fLaC")
    pairs = pair_recipe(world, Path(recipe.nets), tmp_path / "store")
    opened = PairStages(pairs).begin(["audio-video"])["audio-video"]
    assert opened.left_out == 1 and len(opened) == len(sounds) - 1
    sounds[1].write_bytes(b"")
    with pytest.raises(QuotaExceededError, match=f"2 of {len(sounds)} samples"):
        PairStages(pair_recipe(world, Path(recipe.nets), tmp_path / "other")).begin(["audio-video"])


def test_speech_borrows_the_net_of_sounds(recipe: PairRecipe, nets: Path, tmp_path: Path) -> None:
    settings = {
        "nets": str(nets), "store": str(tmp_path),
        "extractors": {"speech": {"encoder": "audio"}, "text": {"language_model": "text"}},
        "pairs": {"speech-text": {"senses": ["speech", "text"], "root": str(SPOKEN),
                                  "data": {"manifest": "manifest.jsonl", "limit": 3}}},
    }  # fmt: skip
    pairs = PairStages(build(PairRecipe, settings, "test")).begin(["speech-text"])["speech-text"]
    speech, words = (pairs[0].media[sense].source for sense in ("speech", "text"))
    assert isinstance(speech, tuple) and speech[0].shape == (10, 8) and torch.equal(speech[0][-1], speech[0][-2])
    assert isinstance(words, tuple) and 1 <= len(words[0]) <= 10


def test_a_unialign_checkpoint_makes_sequences_too(parts: Parts, tmp_path: Path) -> None:
    UniAlignModel.from_clip(parts.anchor, ["audio"]).save_pretrained(tmp_path / "unialign")
    UniAlignProcessor.from_clip(parts.anchor, ["audio"]).save_pretrained(tmp_path / "unialign")
    windows = {"windows": 10, "seconds": 1.0, "layout": "consecutive"}
    extractor = ExtractorSettings(encoder=str(tmp_path / "unialign"), processor=windows).open("audio", 10, tmp_path)
    sound = next((parts.world / "media" / "audio").iterdir())
    steps = extractor(sound)
    assert steps.ndim == 4 and len(steps) == 10
    averaged = ExtractorSettings(encoder=str(tmp_path / "unialign"), processor=windows, raster=False)
    assert torch.allclose(averaged.open("audio", 10, tmp_path)(sound), steps.mean(dim=(1, 2)), atol=1e-5)
    with pytest.raises(ConfigError, match="extractors: audio: processor"):
        ExtractorSettings(encoder=str(tmp_path / "unialign"), processor={"window": 1}).open("audio", 10, tmp_path)


def test_a_whitened_sense_is_extracted_through_the_whitening_beside_its_net(nets: Path) -> None:
    plain, whitened = (ExtractorSettings(language_model="text", whiten=each).open("text", 10, nets)
                       for each in (False, True))  # fmt: skip
    told = ("a cube falls",)
    assert torch.equal(whitened(told), read_whitening(nets / "text")(plain(told)))
    with pytest.raises(ConfigError, match="stored features have no net"):
        ExtractorSettings(stored={"channels": 3}, whiten=True)


def test_mistakes_are_named_with_their_place(recipe: PairRecipe) -> None:
    with pytest.raises(ConfigError, match=r"there are no pairs \['depth-text'\]"):
        PairStages(recipe).begin(["depth-text"])
    with pytest.raises(ConfigError, match="nothing extracts 'depth'"):
        build(PairRecipe, {"extractors": {}, "pairs": {"a": {"senses": ["depth"], "data": {}}}}, "test")
    for senses in ([], ["text"], ["audio", "audio"]):
        with pytest.raises(ConfigError, match="no senses of one sample"):
            PairSettings(senses=senses, data=DatasetSettings())
    with pytest.raises(ConfigError, match="exactly one of encoder"):
        ExtractorSettings(encoder="a", language_model="b")
