from __future__ import annotations

import torch

from polysense.nn import tokenizer_kinds
from polysense.testing import tiny_clip, tiny_features, tiny_llama, tiny_llava, tiny_mera, tiny_senses


def test_tiny_models_are_tiny_and_seeded() -> None:
    first, second, other = tiny_clip(), tiny_clip(), tiny_clip(seed=1)
    assert sum(parameter.numel() for parameter in first.parameters()) < 100_000
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))
    assert not torch.equal(first.visual_projection.weight, other.visual_projection.weight)


def test_building_a_tiny_model_draws_nothing_from_the_caller() -> None:
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    tiny_clip()
    assert torch.equal(torch.rand(1), expected)


def test_there_is_a_tiny_sense_of_every_kind_but_text_with_features_for_each() -> None:
    assert {sense.kind for sense in tiny_senses()} == set(tokenizer_kinds()) - {"text"}
    features = tiny_features(batch=3)
    assert {sense.values_key for sense in tiny_senses()} <= set(features)
    assert {len(values) for values in features.values()} == {3}


def test_tiny_language_models_share_their_sizes() -> None:
    assert sum(parameter.numel() for parameter in tiny_llama().parameters()) < 30_000
    assert tiny_llava().config.text_config.vocab_size == tiny_llama().config.vocab_size


def test_a_tiny_mera_has_images_and_the_senses_asked_for() -> None:
    model = tiny_mera("video", "audio", "depth")
    assert model.modalities == ("image", "video", "audio", "depth")
    assert {name: model.token_layout(name).count(4) for name in ("video", "audio")} == {"video": 16, "audio": 3}
