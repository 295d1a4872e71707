from __future__ import annotations

from typing import Any

import pytest
import torch

from polysense.errors import UnknownModalityError
from polysense.models.mera.inputs import split_inputs
from polysense.testing import tiny_mera

CONFIG = tiny_mera("video").config
VALUES = torch.zeros(1)


def test_features_are_found_by_sense_and_the_rest_is_the_language_models() -> None:
    arguments = {"pixel_values": VALUES, "video_tokens": VALUES, "video_mask": VALUES, "use_cache": True}
    given, rest = split_inputs(CONFIG, arguments)
    assert set(given) == {"image", "video"} and rest == {"use_cache": True}
    assert given["image"].values is VALUES and given["image"].tokens is None
    assert given["video"].tokens is VALUES and given["video"].mask is VALUES


def test_nothing_given_is_nothing() -> None:
    assert split_inputs(CONFIG, {"pixel_values": None, "output_attentions": True}) == ({}, {"output_attentions": True})


@pytest.mark.parametrize("strict", [True, False])
def test_a_sense_that_was_not_learned_is_named(strict: bool) -> None:
    with pytest.raises(UnknownModalityError, match=r"unknown modality 'audio_values' \(known here: pixel_values"):
        split_inputs(CONFIG, {"audio_values": VALUES}, strict=strict)


@pytest.mark.parametrize(
    "arguments",
    [{"video_mask": VALUES}, {"video_values": VALUES, "video_tokens": VALUES}],
)
def test_a_sense_has_values_or_tokens(arguments: dict[str, Any]) -> None:
    with pytest.raises(UnknownModalityError, match="values or tokens, one of them"):
        split_inputs(CONFIG, arguments)


def test_options_of_generation_pass_where_they_may() -> None:
    assert split_inputs(CONFIG, {"max_new_tokens": 3}, strict=False) == ({}, {"max_new_tokens": 3})
    with pytest.raises(UnknownModalityError, match="'max_new_tokens'"):
        split_inputs(CONFIG, {"max_new_tokens": 3})
