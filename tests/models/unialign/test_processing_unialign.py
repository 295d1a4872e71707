from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoProcessor, BatchFeature

from polysense import Modality, UniAlignModel, UniAlignProcessor
from polysense import modality as registry
from polysense.errors import ConfigError, FeatureShapeError, UnknownModalityError, UnregisteredModalityError
from polysense.models.unialign.processing_unialign import known_senses
from polysense.testing import tiny_anchor

SENSES = ("video", "audio", "speech", "depth", "point_cloud")
FACTS = {"depth": [{"intrinsics": [30.0, 30.0], "baseline": 0.075}] * 2}


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_anchor(tmp_path_factory.mktemp("anchor"))


@pytest.fixture
def processor(clip: Path) -> UniAlignProcessor:
    return UniAlignProcessor.from_clip(clip, SENSES)


def raw() -> dict[str, list[Any]]:
    """Two samples of every sense, as arrays."""
    rng = np.random.default_rng(0)
    return {
        "text": ["a red ball", "a blue cup and a box"],
        "images": [rng.integers(0, 255, (40, 36, 3), dtype=np.uint8) for _ in range(2)],
        "depth": [rng.uniform(0.5, 3.0, (40, 40)).astype(np.float32) for _ in range(2)],
        "thermal": [rng.random((40, 40), dtype=np.float32) for _ in range(2)],
        "point_cloud": [rng.standard_normal((300, 3)).astype(np.float32) for _ in range(2)],
    }


def same(left: BatchFeature, right: BatchFeature) -> bool:
    return left.keys() == right.keys() and all(torch.equal(left[key], right[key]) for key in left)


def test_a_clip_of_the_hub_is_taken_by_revision(clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def download(name: str, **given: Any) -> str:
        asked.append(given["revision"])
        return str(clip)

    monkeypatch.setattr("polysense.models.base.snapshot_download", download)
    assert UniAlignProcessor.from_clip("me/clip", ["depth"], revision="v1").modalities == ("image", "text", "depth")
    assert asked == ["v1"]
    with pytest.raises(ConfigError, match=r"from_clip: unknown key 'revison'\. Did you mean 'revision'"):
        UniAlignProcessor.from_clip("me/clip", revison="v1")


def test_eight_senses_survive_the_folder_by_class_and_by_auto_class(
    clip: Path, processor: UniAlignProcessor, thermal: Modality, tmp_path: Path
) -> None:
    processor.add_modality(thermal, templates=["a heat picture of a {}."])
    assert len(processor.modalities) == 8
    UniAlignModel.from_clip(clip, processor.modalities).save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    for loaded in (UniAlignProcessor.from_pretrained(tmp_path), AutoProcessor.from_pretrained(tmp_path)):
        assert type(loaded) is UniAlignProcessor
        assert set(loaded.modalities) == set(processor.modalities)  # JSON is written in order of name
        assert loaded.senses == processor.senses
        assert loaded.templates == {"thermal": ["a heat picture of a {}."]}
        assert same(loaded(**raw(), facts=FACTS), processor(**raw(), facts=FACTS))


def test_a_sense_may_be_given_as_a_spec(clip: Path) -> None:
    spec = Modality(name="depth", kind="grid", channels=1, processor={"warps": 0})
    assert UniAlignProcessor.from_clip(clip, [spec]).part("depth").to_dict()["warps"] == 0


def test_features_carry_the_names_that_the_model_takes(processor: UniAlignProcessor) -> None:
    given = {key: value for key, value in raw().items() if key != "thermal"}
    out = processor(**given, facts=FACTS)
    assert set(out) == {"input_ids", "attention_mask", "pixel_values", "depth_values", "point_cloud_values"}
    assert {len(values) for values in out.values()} == {2}


def test_one_source_is_a_batch_of_one_and_batches_may_differ(processor: UniAlignProcessor) -> None:
    given = raw()
    out = processor(text="a cup", images=given["images"], return_tensors="pt")
    assert len(out["input_ids"]) == 1 and len(out["pixel_values"]) == 2


def test_facts_go_by_the_names_of_the_call(processor: UniAlignProcessor) -> None:
    metres = np.full((40, 40), 2.0, np.float32)
    near, far = ({"focal": focal, "baseline": 0.075} for focal in (500.0, 100.0))
    values = [processor(depth=metres, facts={"depth": given})["depth_values"] for given in (near, [near], far)]
    assert torch.equal(values[0], values[1]) and not torch.equal(values[0], values[2])


def test_facts_of_a_sense_that_is_not_given_are_refused(processor: UniAlignProcessor) -> None:
    with pytest.raises(ConfigError, match=r"facts: there are facts of 'deph', and no sources. Given are depth"):
        processor(depth=np.full((40, 40), 2.0, np.float32), facts={"deph": {"focal": 500.0}})
    with pytest.raises(FeatureShapeError, match="1 sources of depth came with 2 facts"):
        processor(depth=np.full((40, 40), 2.0, np.float32), facts={"depth": [{}, {}]})


def test_the_model_takes_what_the_processor_gives(clip: Path, processor: UniAlignProcessor) -> None:
    groups = processor.part("point_cloud").features(np.zeros((300, 3), np.float32) + np.arange(300)[:, None], None)
    points = Modality(name="point_cloud", kind="points", channels=3, tokenizer={"groups": len(groups), "width": 8})
    model = UniAlignModel.from_clip(clip, ["depth", points])
    given = {key: value for key, value in raw().items() if key != "thermal"}
    with torch.no_grad():
        embeddings = model(**processor(**given, facts=FACTS)).embeddings
    assert {name: tuple(vectors.shape) for name, vectors in embeddings.items()} == dict.fromkeys(
        ("image", "text", "depth", "point_cloud"), (2, 16)
    )


def test_a_sense_is_added_once_and_with_options_that_exist(processor: UniAlignProcessor) -> None:
    before = json.dumps(processor.senses)
    with pytest.raises(ConfigError, match="the processor already has the modality 'depth'"):
        processor.add_modality("depth")
    with pytest.raises(UnregisteredModalityError, match="'smell' is not registered"):
        processor.add_modality("smell")
    fresh = UniAlignProcessor(processor.image_processor, processor.tokenizer)
    with pytest.raises(ConfigError):
        fresh.add_modality("depth", colour=3)
    assert json.dumps(processor.senses) == before and fresh.senses == {}


def test_a_sense_that_is_not_there_is_named(processor: UniAlignProcessor) -> None:
    with pytest.raises(UnknownModalityError, match="processor: unknown modality 'smell'"):
        processor(smell=[1])


def test_an_unregistered_sense_keeps_its_options_and_names_the_missing_call(
    processor: UniAlignProcessor, thermal: Modality, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    processor.add_modality(thermal)
    processor.save_pretrained(tmp_path)
    monkeypatch.delitem(registry._SPECS, "thermal")
    monkeypatch.delitem(registry._PROCESSORS, "thermal")
    loaded = UniAlignProcessor.from_pretrained(tmp_path)
    assert loaded.senses == processor.senses
    with pytest.raises(UnregisteredModalityError, match=r"polysense\.register_modality"):
        loaded(thermal=raw()["thermal"])


def test_frames_share_the_images_statistics(processor: UniAlignProcessor) -> None:
    video: Any = processor.part("video")
    assert list(video.mean) == pytest.approx(processor.image_processor.image_mean)
    assert processor.size == 32


def test_known_senses_are_all_but_image_and_text() -> None:
    assert set(SENSES) <= set(known_senses())
    assert not {"image", "text"} & set(known_senses())
