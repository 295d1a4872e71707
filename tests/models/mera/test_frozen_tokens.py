"""Frozen tokens in place of features."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import CLIPImageProcessorPil

from polysense.models.mera import MeraForConditionalGeneration, MeraProcessor
from polysense.models.mera.frozen_tokens import FrozenTokens
from polysense.models.mera.token_store import FrozenTokenStore
from polysense.testing import tiny_mera, tiny_tokenizer

PICTURES = CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
PICTURES_DARKER = CLIPImageProcessorPil(**PICTURES.to_dict() | {"image_mean": [0.6, 0.6, 0.6]})


@pytest.fixture(scope="module")
def model() -> MeraForConditionalGeneration:
    return tiny_mera("video")


@pytest.fixture(scope="module")
def processor(model: MeraForConditionalGeneration) -> MeraProcessor:
    return MeraProcessor.from_model(model, tiny_tokenizer(), PICTURES, {"video": {"num_frames": 3}})


def written(folder: Path, count: int = 3) -> list[Any]:
    rng = np.random.default_rng(0)
    paths = [folder / f"{number}.png" for number in range(count)]
    for path in paths:
        Image.fromarray(rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)).save(path)
    return list(paths)


def test_tokens_are_those_of_the_encoder_and_give_the_same_features(
    model: MeraForConditionalGeneration, processor: MeraProcessor, tmp_path: Path
) -> None:
    sources = written(tmp_path)
    frozen = FrozenTokens(model, processor, 1 << 20)("image", sources)
    assert set(frozen) == {"image_tokens"}
    values = processor.features("image", sources)["pixel_values"]
    wanted = model.encode("image", values).tokens
    assert wanted is not None and torch.allclose(frozen["image_tokens"], wanted, atol=1e-5)


def test_a_sample_is_encoded_once_and_whatever_stands_beside_it(
    model: MeraForConditionalGeneration, processor: MeraProcessor, tmp_path: Path
) -> None:
    sources, tokens = written(tmp_path), FrozenTokens(model, processor, 1 << 20)
    with patch.object(type(model), "encode", autospec=True, side_effect=type(model).encode) as encode:
        together = tokens("image", sources)["image_tokens"]
        alone = tokens("image", sources[1:2])["image_tokens"]
        assert encode.call_count == 3
    assert torch.equal(alone[0], together[1])
    other = FrozenTokens(model, processor, 1 << 20)("image", sources[1:2])["image_tokens"]
    assert torch.equal(other, alone)


def test_what_is_augmented_or_beyond_the_limit_is_not_kept(
    model: MeraForConditionalGeneration, processor: MeraProcessor, tmp_path: Path
) -> None:
    sources = written(tmp_path, 1)
    for limit, rngs in ((0, None), (1 << 20, [np.random.default_rng(0)])):
        tokens = FrozenTokens(model, processor, limit)
        with patch.object(type(model), "encode", autospec=True, side_effect=type(model).encode) as encode:
            tokens("image", sources, rngs=rngs)
            tokens("image", sources, rngs=rngs)
            assert encode.call_count == 2


def test_items_of_several_lengths_are_masked(model: MeraForConditionalGeneration, processor: MeraProcessor) -> None:
    rng = np.random.default_rng(0)
    clips = [rng.integers(0, 255, (frames, 32, 32, 3), dtype=np.uint8) for frames in (2, 5)]
    frozen = FrozenTokens(model, processor, 1 << 20)("video", clips)
    values = processor.features("video", clips)
    if "video_mask" in values:
        assert torch.equal(frozen["video_mask"], values["video_mask"])
    assert frozen["video_tokens"].shape[:2] == (2, 3)


def test_a_store_gives_other_runs_the_same_bits_without_encoding(
    model: MeraForConditionalGeneration, processor: MeraProcessor, tmp_path: Path
) -> None:
    sources, store = written(tmp_path), FrozenTokenStore(tmp_path / "store")
    first = FrozenTokens(model, processor, 0, store)("image", sources)["image_tokens"]
    model.save_pretrained(tmp_path / "model")
    loaded = MeraForConditionalGeneration.from_pretrained(tmp_path / "model")
    with patch.object(type(model), "encode", side_effect=AssertionError):
        again = FrozenTokens(loaded, processor, 0, FrozenTokenStore(tmp_path / "store"))("image", sources)
    assert torch.equal(again["image_tokens"], first)


def test_a_store_tells_encoders_and_options_apart_and_keeps_nothing_augmented(
    model: MeraForConditionalGeneration, processor: MeraProcessor, tmp_path: Path
) -> None:
    sources, store = written(tmp_path, count=1), FrozenTokenStore(tmp_path / "store")

    def kept() -> int:
        return sum(path.is_file() for path in (tmp_path / "store").rglob("*"))

    FrozenTokens(model, processor, 0, store)("image", sources, rngs=[np.random.default_rng(0)])
    assert kept() == 0
    FrozenTokens(model, processor, 0, store)("image", sources)
    FrozenTokens(model, processor, 0, store)("image", sources)
    assert kept() == 1
    FrozenTokens(tiny_mera("video", seed=1), processor, 0, store)("image", sources)
    assert kept() == 2
    darker = MeraProcessor.from_model(model, tiny_tokenizer(), PICTURES_DARKER, {"video": {"num_frames": 3}})
    FrozenTokens(model, darker, 0, store)("image", sources)
    assert kept() == 3
