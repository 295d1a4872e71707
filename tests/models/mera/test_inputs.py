from __future__ import annotations

import logging
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import OPTConfig, OPTForCausalLM

from polysense.errors import ConfigError, FeatureShapeError, UnknownModalityError
from polysense.models.mera import MeraForConditionalGeneration
from polysense.models.mera.inputs import _warn_of_length, check_batch, check_labels, split_inputs
from polysense.testing import tiny_mera
from polysense.testing.tiny import tiny_tokenizer

CONFIG = tiny_mera("video").config
VALUES, MASK = torch.zeros(1, 1, 1, 1), torch.ones(1, 1, dtype=torch.bool)


def test_features_are_found_by_sense_and_the_rest_is_the_language_models() -> None:
    arguments = {"pixel_values": VALUES, "video_tokens": VALUES, "video_mask": MASK, "use_cache": True}
    given, rest = split_inputs(CONFIG, arguments)
    assert set(given) == {"image", "video"} and rest == {"use_cache": True}
    assert given["image"].values is VALUES and given["image"].tokens is None
    assert given["video"].tokens is VALUES and given["video"].mask is MASK


def test_nothing_given_is_nothing() -> None:
    assert split_inputs(CONFIG, {"pixel_values": None, "output_attentions": True}) == ({}, {"output_attentions": True})


@pytest.mark.parametrize("strict", [True, False])
def test_a_sense_that_was_not_learned_is_named(strict: bool) -> None:
    with pytest.raises(UnknownModalityError, match=r"audio_values: unknown modality 'audio' \(known here: image"):
        split_inputs(CONFIG, {"audio_values": VALUES}, strict=strict)


@pytest.mark.parametrize(
    "arguments",
    [{"video_mask": MASK}, {"video_values": VALUES, "video_tokens": VALUES}],
)
def test_a_sense_has_values_or_tokens(arguments: dict[str, Any]) -> None:
    with pytest.raises(UnknownModalityError, match="values or tokens, one of them"):
        split_inputs(CONFIG, arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"video_values": [1.0]}, "video_values: this is a list, not a tensor"),
        ({"video_tokens": VALUES[0]}, r"video_tokens: the tokens have shape \(1, 1, 1\)"),
        ({"video_tokens": VALUES[:0]}, r"video: the features have shape \(0, 1, 1, 1\), which holds nothing"),
        ({"video_values": VALUES[:, :0]}, r"video: the features have shape \(1, 0, 1, 1\), which holds nothing"),
        ({"video_tokens": VALUES, "video_mask": MASK[0]}, r"video_mask: the mask is torch.bool of shape \(1,\)"),
        ({"video_tokens": VALUES, "video_mask": MASK.expand(1, 2)}, r"video_mask: .* of shape \(1, 2\)"),
        ({"video_tokens": VALUES, "video_mask": MASK.float()}, r"video_mask: the mask is torch.float32"),
        ({"video_values": VALUES, "video_mask": MASK.expand(2, 1)}, r"video_mask: .* of shape \(2, 1\)"),
    ],
)
def test_what_is_no_feature_or_mask_is_named(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(FeatureShapeError, match=message):
        split_inputs(CONFIG, arguments)


IDS, VECTORS = torch.ones(1, 3).long(), torch.ones(2, 3, 4)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ((IDS[0],), r"input_ids: the ids are torch.int64 of shape \(3,\)"),
        ((IDS.float(),), "input_ids: the ids are torch.float32"),
        ((IDS[:, :0],), r"input_ids: the ids are torch.int64 of shape \(1, 0\)"),
        ((IDS.bool(),), "input_ids: the ids are torch.bool"),
        ((IDS, None, IDS[:, 1:]), r"attention_mask: the mask has shape \(1, 2\), the texts \(1, 3\)"),
        ((IDS, None, IDS[0]), r"attention_mask: the mask has shape \(3,\), the texts \(1, 3\)"),
        ((None, VECTORS, IDS), r"attention_mask: the mask has shape \(1, 3\), the texts \(2, 3\)"),
    ],
)
def test_ids_vectors_and_masks_are_batches_of_texts(given: tuple[Any, ...], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        check_batch(*given)


def test_a_mask_may_be_ready_for_attention() -> None:
    for mask in (IDS, IDS.bool(), torch.ones(1, 1, 3, 3), {"full_attention": IDS[0]}):
        check_batch(IDS, None, mask)


@pytest.mark.parametrize(
    ("labels", "texts", "message"),
    [
        (IDS[:, 1:], IDS, r"labels: the labels are torch.int64 of shape \(1, 2\), not int64 of \(1, 3\)"),
        (IDS, VECTORS, r"labels: the labels are torch.int64 of shape \(1, 3\), not int64 of \(2, 3\)"),
        (IDS.float(), IDS, r"labels: the labels are torch.float32 of shape \(1, 3\)"),
        (torch.tensor([[0, 1], [1, 5]]), torch.ones(2, 2), "labels of sample 1: the id 5 is none of the 5 of"),
        (torch.tensor([[-1, 9]]), torch.ones(1, 2), "labels of sample 0: the id -1 is none of the 5 .* or -100"),
    ],
)
def test_labels_are_those_of_texts_and_of_the_vocabulary(labels: Tensor, texts: Tensor, message: str) -> None:
    check_labels(torch.tensor([[-100, 0, 4]]), IDS, 5)
    with pytest.raises(ConfigError, match=message):
        check_labels(labels, texts, 5)


def test_options_of_generation_pass_where_they_may() -> None:
    assert split_inputs(CONFIG, {"max_new_tokens": 3}, strict=False) == ({}, {"max_new_tokens": 3})
    with pytest.raises(ConfigError, match="unknown key 'max_new_tokens'"):
        split_inputs(CONFIG, {"max_new_tokens": 3})
    assert split_inputs(CONFIG, {"tokenizer": str, "use_cache": True}) == ({}, {"use_cache": True})


def test_more_tokens_than_a_language_model_was_made_for_are_warned_of_once(caplog: pytest.LogCaptureFixture) -> None:
    model = tiny_mera()
    model.config.llm.max_position_embeddings = 6
    ids, mask = torch.full((2, 8), 5), torch.ones(2, 8, dtype=torch.long)
    _warn_of_length.cache_clear()
    with caplog.at_level(logging.WARNING), torch.no_grad():
        model(input_ids=ids[:, :6])
        model(input_ids=ids, attention_mask=mask.triu(2).flip(1))  # 6 of them are real
        assert not caplog.records
        for _ in range(2):
            assert model(input_ids=ids, attention_mask=mask).logits.isfinite().all()
    (record,) = caplog.records
    assert "longer than the 6 tokens that the language model was made for" in record.getMessage()


def test_positions_that_a_language_model_lacks_are_named() -> None:
    llm = OPTConfig(vocab_size=96, hidden_size=16, word_embed_proj_dim=16, ffn_dim=16, num_hidden_layers=1,
                    num_attention_heads=2, max_position_embeddings=6, pad_token_id=0)  # fmt: skip
    model = MeraForConditionalGeneration.from_parts(OPTForCausalLM(llm), tokenizer=tiny_tokenizer())
    ids = torch.full((1, 20), 5)
    assert model(input_ids=ids[:, :6]).logits.shape == (1, 6, model.config.llm.vocab_size)
    with pytest.raises(ConfigError, match="20 tokens are more than the 6 positions of the language model"):
        model(input_ids=ids, labels=ids)
    with pytest.raises(ConfigError, match="more than the 6 positions"):
        model.generate(ids[:, :5], max_new_tokens=9, min_new_tokens=9)
