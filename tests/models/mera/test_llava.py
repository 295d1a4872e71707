"""MERA's first stage beside Hugging Face's LLaVA: equal to the last bit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import LlavaForConditionalGeneration, PixtralVisionConfig, SiglipVisionConfig

from polysense.errors import CheckpointError, ConfigError
from polysense.models.mera import MeraForConditionalGeneration
from polysense.nn.adapter_in_adapter import AdapterOptions
from polysense.testing import tiny_clip, tiny_llama, tiny_llava, tiny_mera
from tests.models.mera.prompts import features, labels_of, padded

IMAGE = [95] * 16
SIGLIP = SiglipVisionConfig(hidden_size=32, intermediate_size=64, num_hidden_layers=3, num_attention_heads=4,
                            image_size=32, patch_size=8)  # fmt: skip
VARIANTS: dict[str, dict[str, Any]] = {
    "default": {},
    "last layer": {"vision_feature_layer": -1},
    "class token kept": {"vision_feature_select_strategy": "full"},
    "no bias, relu": {"multimodal_projector_bias": False, "projector_hidden_act": "relu"},
    "tied": {"tie_word_embeddings": True},
    "siglip": {"vision": SIGLIP, "vision_feature_select_strategy": "full"},
    "siglip's first patch dropped": {"vision": SIGLIP},
}


def batch(llava: Any = None, images: int = 2) -> dict[str, Tensor]:
    """Two left-padded prompts with an image each."""
    image = IMAGE
    if llava is not None:
        dropped = llava.config.vision_feature_select_strategy == "default"
        image = [95] * (16 + (llava.config.vision_config.model_type == "clip_vision_model") - dropped)
    rows = [[1, 5, *image, 7, 8, 9, 30], [1, *image, 6, 40]]
    return {**padded(rows), **features(image=images)}


def both(variant: str) -> tuple[Any, Any]:
    llava = tiny_llava(**VARIANTS[variant])
    return llava, MeraForConditionalGeneration.from_llava(llava)


@torch.no_grad()
def logits(model: Any, given: dict[str, Tensor]) -> Tensor:
    found: Tensor = model(**given).logits
    return found


@pytest.mark.parametrize("variant", VARIANTS)
def test_logits_are_equal(variant: str) -> None:
    llava, mera = both(variant)
    given = batch(llava)
    assert torch.equal(logits(mera, given), logits(llava, given))
    text = padded([[1, 5, 6], [1, 9, 3]])
    assert torch.equal(logits(mera, text), logits(llava, text))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_equal_too_though_the_masters_are_full(dtype: torch.dtype) -> None:
    llava = tiny_llava()
    with torch.no_grad():
        for parameter in llava.model.multi_modal_projector.parameters():  # biases that round as trained ones do
            parameter.normal_(std=0.3, generator=torch.Generator().manual_seed(0))
    llava = llava.to(dtype)
    mera = MeraForConditionalGeneration.from_llava(llava)
    assert {p.dtype for p in mera.model.connectors.parameters()} == {torch.float32}
    assert {p.dtype for n, p in mera.named_parameters() if "connectors" not in n} == {dtype}
    assert torch.equal(logits(mera, batch()), logits(llava, batch()))


@pytest.mark.parametrize("items", [None, 37])
def test_loss_and_gradients_are_equal(items: int | None) -> None:
    llava, mera = both("default")
    given = {**batch(), "labels": labels_of(batch())}
    losses = [model(**given, num_items_in_batch=items).loss for model in (llava, mera)]
    torch.testing.assert_close(losses[1], losses[0], atol=1e-6, rtol=1e-6)
    for loss in losses:
        loss.backward()
    theirs = dict(llava.model.multi_modal_projector.named_parameters())
    for name, parameter in mera.model.connectors["image"].named_parameters():
        torch.testing.assert_close(parameter.grad, theirs[name].grad, atol=1e-6, rtol=1e-5)
    for name, parameter in mera.model.language_model.named_parameters():
        expected = llava.model.language_model.get_parameter(name).grad
        torch.testing.assert_close(parameter.grad, expected, atol=1e-6, rtol=1e-5)


OPTIONS: list[dict[str, Any]] = [
    {},
    {"num_beams": 3},
    {"num_beams": 2, "num_return_sequences": 2},
    {"do_sample": True, "num_return_sequences": 3},
    {"repetition_penalty": 1.3},
    {"return_dict_in_generate": True, "output_scores": True},
]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_generation_is_equal_prompt_included(options: dict[str, Any]) -> None:
    found = []
    for model in both("default"):
        torch.manual_seed(0)
        out = model.generate(**batch(), max_new_tokens=6, min_new_tokens=6, **options)
        found.append(out if isinstance(out, Tensor) else out.sequences)
    assert torch.equal(found[0], found[1])
    assert torch.equal(found[1][0, : batch()["input_ids"].shape[1]], batch()["input_ids"][0])


def test_several_images_in_a_sample_as_in_llava() -> None:
    llava, mera = both("default")
    given = {**padded([[1, *IMAGE, 4, *IMAGE, 5], [1, 6, *IMAGE]]), **features(image=3)}
    assert torch.equal(logits(mera, given), logits(llava, given))
    out = [model.generate(**given, max_new_tokens=4, min_new_tokens=4, num_beams=2) for model in (llava, mera)]
    assert torch.equal(out[0], out[1])


@pytest.mark.parametrize("variant", VARIANTS)
def test_there_and_back_through_folders(variant: str, tmp_path: Path) -> None:
    llava, _ = both(variant)
    llava.save_pretrained(tmp_path / "llava")
    MeraForConditionalGeneration.from_llava(tmp_path / "llava").save_pretrained(tmp_path / "mera")
    loaded = MeraForConditionalGeneration.from_pretrained(tmp_path / "mera")
    loaded.to_llava().save_pretrained(tmp_path / "back")
    back: Any = LlavaForConditionalGeneration.from_pretrained(tmp_path / "back")
    given, state = batch(llava), llava.state_dict()
    for model in (loaded, back):
        assert torch.equal(logits(model, given), logits(llava, given))
    assert back.state_dict().keys() == state.keys()
    assert all(torch.equal(back.state_dict()[name], value) for name, value in state.items())
    assert back.generation_config.pad_token_id == llava.generation_config.pad_token_id
    for name in (
        "image_token_index",
        "vision_feature_layer",
        "vision_feature_select_strategy",
        "projector_hidden_act",
    ):
        assert getattr(back.config, name) == getattr(llava.config, name)


def test_one_layer_may_be_given_as_a_list() -> None:
    llava = tiny_llava(vision_feature_layer=[-2])
    mera = MeraForConditionalGeneration.from_llava(llava)
    for model in (mera, mera.to_llava()):
        assert torch.equal(logits(model, batch(llava)), logits(llava, batch(llava)))


def test_neither_direction_touches_or_shares_the_source() -> None:
    llava, mera = both("default")
    state = {name: value.clone() for name, value in mera.state_dict().items()}
    back = mera.to_llava()
    with torch.no_grad():
        for model in (llava, back):
            for parameter in model.parameters():
                parameter.zero_()
    assert all(torch.equal(value, state[name]) for name, value in mera.state_dict().items())
    assert all(parameter.requires_grad for parameter in llava.parameters())


def test_attention_stays_as_it_was_chosen() -> None:
    llava = tiny_llava()
    llava.set_attn_implementation("eager")
    mera: Any = MeraForConditionalGeneration.from_llava(llava)
    assert mera.model.language_model.config._attn_implementation == "eager"
    assert mera.model.encoders["image"].base.config._attn_implementation == "eager"
    assert torch.equal(logits(mera, batch()), logits(llava, batch()))


def test_a_placeholder_without_a_row_gets_one_for_llava() -> None:
    mera = MeraForConditionalGeneration.from_parts(
        tiny_llama(), {"image": tiny_clip().vision_model}, layers={"image": -2}
    )
    assert mera.config.senses["image"].token_id == 96
    given = {**padded([[1, *[96] * 16, 5]]), **features(image=1)}
    torch.testing.assert_close(logits(mera.to_llava(), given)[..., :96], logits(mera, given), atol=1e-6, rtol=0)


def test_what_is_no_llava_1_5_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"joins the features of layers \[-2, -1\]"):
        MeraForConditionalGeneration.from_llava(tiny_llava(vision_feature_layer=[-2, -1]))
    tower = PixtralVisionConfig(hidden_size=16, intermediate_size=24, num_hidden_layers=3, num_attention_heads=2)
    with pytest.raises(ConfigError, match=r"vision_config: the tower of this LLaVA \(pixtral\) takes pictures of any"):
        MeraForConditionalGeneration.from_llava(tiny_llava(vision=tower))
    with pytest.raises(ConfigError, match="a LlamaForCausalLM is no LlavaForConditionalGeneration"):
        MeraForConditionalGeneration.from_llava(tiny_llama())


def test_a_folder_with_a_weight_too_few_is_refused(tmp_path: Path) -> None:
    tiny_llava().save_pretrained(tmp_path)
    path = tmp_path / "model.safetensors"
    state = {key: value for key, value in load_file(path).items() if "linear_1.bias" not in key}
    save_file(state, path, metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match="the folder lacks the weights"):
        MeraForConditionalGeneration.from_llava(tmp_path)


def test_adapters_in_the_language_model_do_not_go_back() -> None:
    model = tiny_mera()
    model.add_adapters(["layers.0.mlp.up_proj"], AdapterOptions(rank=2))
    with pytest.raises(ConfigError, match="no adapters in its language model"):
        model.to_llava()


def test_only_an_image_path_of_llavas_goes_back() -> None:
    with pytest.raises(ConfigError, match=r"a LLaVA has images only, this model has \['image', 'video'\]"):
        tiny_mera("video").to_llava()
    tower = tiny_clip().vision_model
    for options in ({"pools": {"image": 2}}, {"connectors": {"image": {"kind": "mlp", "hidden_dims": [8]}}}):
        model = MeraForConditionalGeneration.from_parts(tiny_llama(), {"image": tower}, **options)
        with pytest.raises(ConfigError, match="LLaVA has no such path for images"):
            model.to_llava()
