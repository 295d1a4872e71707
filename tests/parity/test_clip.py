"""UniAlign without experts is the CLIP it was built on."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.nn import functional as F

from polysense import UniAlignModel
from polysense.testing import tiny_clip, tiny_features, tiny_senses

RANDOM_TOWERS: list[dict[str, Any]] = [
    {},
    {"hidden_size": 48, "num_attention_heads": 3, "num_hidden_layers": 1},
    {"hidden_size": 24, "num_attention_heads": 2, "intermediate_size": 40, "hidden_act": "gelu"},
    {"num_hidden_layers": 5, "patch_size": 16, "layer_norm_eps": 1e-6},
    {"attn_implementation": "eager"},
]


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("tower", RANDOM_TOWERS, ids=str)
def test_images_and_texts_come_out_as_clips(tower: dict[str, Any], seed: int) -> None:
    clip = tiny_clip(seed, **tower)
    model = UniAlignModel.from_clip(clip, tiny_senses())
    given = tiny_features(3, seed)
    pixels, text = given["pixel_values"], {key: given[key] for key in ("input_ids", "attention_mask")}
    with torch.no_grad():
        expected = clip(pixel_values=pixels, **text)
        out = model(pixel_values=pixels, **text)
        torch.testing.assert_close(out.embeddings["image"], expected.image_embeds, atol=1e-6, rtol=0)
        torch.testing.assert_close(out.embeddings["text"], expected.text_embeds, atol=1e-6, rtol=0)
        assert torch.equal(out.logit_scale, clip.logit_scale.exp())
        features = clip.get_image_features(pixels).pooler_output
        assert torch.equal(out.embeddings["image"], F.normalize(features, dim=-1))  # to the last bit


@pytest.mark.parametrize("layer", [0, 1, 3])
def test_tokens_of_an_image_are_clips_hidden_states(layer: int) -> None:
    clip = tiny_clip()
    model, pixels = UniAlignModel.from_clip(clip), tiny_features()["pixel_values"]
    with torch.no_grad():
        states = clip.vision_model(pixels, output_hidden_states=True).hidden_states
        tokens = model.encode_tokens("image", pixels, layer=layer).tokens
    assert tokens is not None
    assert torch.equal(tokens[:, 0], states[layer][:, 1:])


@pytest.mark.parametrize("site", ["linear", "block"])
def test_fresh_image_experts_are_the_identity(site: str) -> None:
    clip, pixels = tiny_clip(), tiny_features()["pixel_values"]
    model = UniAlignModel.from_clip(clip, image_experts=True, expert_site=site)
    with torch.no_grad():
        expected = F.normalize(clip.get_image_features(pixels).pooler_output, dim=-1)
        torch.testing.assert_close(model.embed("image", pixels), expected, atol=1e-6, rtol=0)
