"""Placeholders of a processor by themselves; what prompts make of them is in test_processing_mera.py."""

from __future__ import annotations

import pytest
import torch
from transformers import CLIPImageProcessorPil

from polysense.errors import FeatureShapeError, UnknownModalityError
from polysense.models.mera import MeraProcessor
from polysense.models.mera.layout import TokenLayout
from polysense.testing import tiny_tokenizer


@pytest.fixture
def processor() -> MeraProcessor:
    processor = MeraProcessor(CLIPImageProcessorPil(), tiny_tokenizer())
    processor.add_modality("image", TokenLayout(per_step=2))
    processor.add_modality("audio", {"per_step": 3, "fixed": True}, token="<sound>")
    processor.add_modality("video", {"per_step": 4, "frames_per_step": 2})
    return processor


def test_every_sense_has_its_token_and_layout(processor: MeraProcessor) -> None:
    assert [processor.token(name) for name in processor.modalities] == ["<image>", "<sound>", "<video>"]
    assert [processor.token_id(name) for name in processor.modalities] == [95, 96, 97]
    assert processor.layout("audio") == TokenLayout(per_step=3, fixed=True)


def test_a_sense_that_is_not_there_is_named(processor: MeraProcessor) -> None:
    for call in (processor.token, processor.token_id, processor.layout):
        with pytest.raises(UnknownModalityError, match="processor: unknown modality 'smell'"):
            call("smell")


def test_tokens_are_counted_from_values_and_masks(processor: MeraProcessor) -> None:
    video = {"video_values": torch.zeros(2, 6, 3, 4, 4), "video_mask": torch.arange(6) < torch.tensor([[6], [3]])}
    assert processor.counts("video", video) == [12, 8]
    assert processor.counts("video", {"video_values": video["video_values"]}) == [12, 12]
    assert processor.counts("image", {"pixel_values": torch.zeros(3, 3, 4, 4)}) == [2, 2, 2]
    assert processor.counts("audio", {"audio_values": torch.zeros(1, 5, 1, 4, 4)}) == [3]


def test_texts_are_expanded_over_the_batch(processor: MeraProcessor) -> None:
    texts = processor.expand(["<image> <sound>", "<image>"], {"image": [1, 2], "audio": [3]})
    assert texts == ["<image> <sound><sound><sound>", "<image><image>"]
    with pytest.raises(FeatureShapeError, match="image of sample 1"):
        processor.expand(["<image>", "<image>"], {"image": [1]})


def test_options_of_a_sense_are_kept_apart_from_its_placeholder(processor: MeraProcessor) -> None:
    assert processor.senses["image"] == {"tokens": {**TokenLayout(per_step=2).to_dict(), "token": "<image>"}}
    assert processor.part("video").to_dict() == {
        key: value for key, value in processor.senses["video"].items() if key != "tokens"
    }
