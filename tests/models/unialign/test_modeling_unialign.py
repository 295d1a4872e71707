from __future__ import annotations

from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F

from polysense import Modality, UniAlignConfig, UniAlignModel
from polysense.continual import apply_freezing
from polysense.errors import (
    CheckpointError,
    ConfigError,
    FeatureShapeError,
    UnknownModalityError,
    UnregisteredModalityError,
)
from polysense.outputs import UniAlignOutput
from polysense.protocols import ModalityEncoder
from polysense.testing import tiny_clip, tiny_features, tiny_llama, tiny_senses
from polysense.testing.counting import flops, parameter_bytes

SENSES = {sense.name: sense for sense in tiny_senses()}
SITES = ("linear", "block")
VARIANTS: list[dict[str, Any]] = [
    {"expert_site": site, "routing": routing, "top_k": top_k}
    for site, routing, top_k in product(SITES, ("group", "global"), (None, 1))
]


def build(*names: str, seed: int = 0, clip: Any = None, awake: bool = True, **config: Any) -> UniAlignModel:
    """A tiny model with the named senses; `awake` gives every B a value, as training would."""
    model = UniAlignModel.from_clip(clip or tiny_clip(), [SENSES[name] for name in names], seed=seed, **config)
    if awake:
        wake(model)
    return model


def wake(model: nn.Module) -> None:
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith(".up"):
                parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=0.1)


def embeddings(model: UniAlignModel, batch: int = 2) -> dict[str, Tensor]:
    given = tiny_features(batch)
    with torch.no_grad():
        return {name: model.embed(name, given) for name in model.modalities}


def copies(model: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


# ---- building ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"expert_rnk": 8}, r"from_clip: unknown key 'expert_rnk'\. Did you mean 'expert_rank'"),
        ({"expert_rank": "8"}, r"from_clip: .*'expert_rank' expected int"),
        ({"expert_alpha": 0}, "expert_alpha is 0"),
        ({"num_experts": 0}, "num_experts is 0"),
        ({"visible_groups": {}}, "unknown key 'visible_groups'"),
    ],
    ids=str,
)
def test_options_that_cannot_be_are_refused_by_name(options: dict[str, Any], message: str, clip_folder: Path) -> None:
    for clip in (clip_folder, tiny_clip()):
        with pytest.raises(ConfigError, match=message):
            UniAlignModel.from_clip(clip, ["depth"], **options)


def test_a_clip_of_the_hub_is_taken_by_revision_and_token(clip_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, Any] = {}

    def download(name: str, **arguments: Any) -> str:
        asked.update(arguments, name=name)
        return str(clip_folder)

    monkeypatch.setattr("polysense.models.base.snapshot_download", download)
    model = UniAlignModel.from_clip("me/clip", ["depth"], expert_rank=8, revision="v1", token="t")
    assert model.config.expert_rank == 8
    assert (asked["name"], asked["revision"], asked["token"]) == ("me/clip", "v1", "t")
    with pytest.raises(ConfigError, match="from_clip: unknown key 'revision'"):
        UniAlignModel.from_clip(tiny_clip(), revision="v1")  # a model at hand has none


# ---- adding a sense ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("added", "config"),
    [
        *product(SENSES, VARIANTS[::4]),
        *product(["depth"], VARIANTS),
    ],  # every kind at both sites; depth in all variants
    ids=str,
)
def test_adding_a_sense_changes_no_older_key_and_no_older_output(added: str, config: dict[str, Any]) -> None:
    older = [name for name in ("depth", "audio", "point_cloud") if name != added]
    model = build(*older, image_experts=True, unified_text=True, **config)
    state, before = copies(model), embeddings(model)
    model.add_modality(SENSES[added])
    assert all(torch.equal(model.state_dict()[name], value) for name, value in state.items())
    after = embeddings(model)
    assert all(torch.equal(after[name], value) for name, value in before.items())
    assert set(after) - set(before) == {added}
    new = set(model.state_dict()) - set(state)
    assert new and all(f".{added}." in f".{name}." for name in new)


def test_global_routing_hides_a_later_group_until_it_is_unmasked() -> None:
    model = build("depth", routing="global")
    model.add_modality(SENSES["audio"])
    wake(model)
    before = embeddings(model)
    assert model.config.visible_groups == {"depth": ["depth"], "audio": ["audio", "depth"]}
    model.unmask_experts()
    after = embeddings(model)
    assert model.config.visible_groups["depth"] == ["audio", "depth"]
    assert not torch.allclose(before["depth"], after["depth"], atol=1e-5)
    assert torch.equal(before["audio"], after["audio"])


def test_senses_that_share_a_group_share_experts() -> None:
    speech = Modality(name="speech", kind="spectrogram", channels=1, group="audio")
    model = build("audio")
    experts = sum(size for part, (size, _) in model.parameter_table().items() if part.startswith("experts"))
    model.add_modality(speech)
    table = model.parameter_table()
    assert sum(size for part, (size, _) in table.items() if part.startswith("experts")) == experts
    assert "tokenizer speech" in table and "experts speech" not in table


def test_a_sense_is_added_once() -> None:
    model = build("depth")
    state = copies(model)
    for name in ("depth", "image", "text"):
        with pytest.raises(ConfigError, match=f"already has the modality '{name}'"):
            model.add_modality(Modality(name=name, kind="grid"))
    assert state.keys() == model.state_dict().keys()


def test_a_sense_is_named_once() -> None:
    with pytest.raises(ConfigError, match="a modality is named twice in"):
        build("depth", "audio", "depth")


def test_a_spec_that_does_not_fit_changes_nothing() -> None:
    model = build("depth")
    state, config = copies(model), model.config.to_dict()
    with pytest.raises(ConfigError, match="patch 64, stride 64"):
        model.add_modality(Modality(name="thermal", kind="grid", tokenizer={"patch_size": 64}))
    with pytest.raises(UnregisteredModalityError, match="'smell' is not registered"):
        model.add_modality("smell")
    assert state.keys() == model.state_dict().keys()
    assert model.config.to_dict() == config


def test_a_registered_name_stands_for_its_spec() -> None:
    model = UniAlignModel.from_clip(tiny_clip(), ["image", "text", "depth"])
    assert model.modalities == ("image", "text", "depth")


@pytest.mark.parametrize("training", [False, True])
def test_a_new_sense_takes_mode_and_precision_of_the_model(training: bool) -> None:
    model = build("depth").bfloat16().train(training)
    model.add_modality(SENSES["point_cloud"])
    assert {module.training for module in model.tokenizers["point_cloud"].modules()} == {training}
    assert {parameter.dtype for parameter in model.parameters()} == {torch.bfloat16}


# ---- starts -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("routing", ["group", "global"])
def test_a_sense_starts_from_its_own_name_whatever_else_is_added(routing: str) -> None:
    one, other = (
        build(*names, awake=False, routing=routing)
        for names in (("depth", "audio"), ("point_cloud", "audio", "video", "depth"))
    )
    state, shared = other.state_dict(), set(one.state_dict())
    assert all(torch.equal(one.state_dict()[name], state[name]) for name in shared)


def test_seeds_and_names_give_other_starts() -> None:
    first, second = (build("audio", "speech", seed=seed, awake=False).state_dict() for seed in (0, 1))
    key = "experts.blocks.0.sites.fc1.groups.{}.down"
    assert not torch.equal(first[key.format("audio")], second[key.format("audio")])
    assert not torch.equal(first[key.format("audio")], first[key.format("speech")])
    assert not torch.equal(first[key.format("audio")], first[key.format("audio").replace("0", "1", 1)])
    assert not torch.equal(first["tokenizers.audio.position"], first["tokenizers.speech.position"])


def test_the_start_does_not_touch_the_callers_random_numbers() -> None:
    clip = tiny_clip()
    build("depth", clip=clip)
    model = build("depth", clip=clip)
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    model.add_modality(SENSES["audio"])
    torch.manual_seed(3)
    assert torch.equal(torch.rand(1), expected)


@pytest.mark.parametrize("site", SITES)
def test_new_experts_leave_clips_function_as_it_is(site: str) -> None:
    """Video adopts CLIP's patches, so a one-frame video through fresh experts is the image."""
    model = build("video", awake=False, expert_site=site)
    pixels = tiny_features()["pixel_values"]
    with torch.no_grad():
        torch.testing.assert_close(
            model.embed("video", pixels.unsqueeze(1)), model.embed("image", pixels), atol=1e-5, rtol=0
        )


def test_the_singular_start_changes_no_output_and_never_edits_the_base() -> None:
    clip = tiny_clip()
    plain, svd = (
        build("video", "depth", clip=clip, awake=False, image_experts=True, expert_init=init)
        for init in ("lora", "svd")
    )
    for name, expected in embeddings(plain).items():
        torch.testing.assert_close(embeddings(svd)[name], expected, atol=1e-5, rtol=0)
    assert all(torch.equal(svd.clip.state_dict()[name], value) for name, value in clip.state_dict().items())
    wake(svd)
    assert not torch.allclose(embeddings(svd)["depth"], embeddings(plain)["depth"], atol=1e-4)


# ---- routing ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("site", SITES)
def test_top_k_changes_outputs_only_where_it_drops_experts(site: str) -> None:
    dense, two, one = (build("depth", expert_site=site, top_k=top_k) for top_k in (None, 2, 1))
    expected = embeddings(dense)["depth"]
    assert torch.equal(embeddings(two)["depth"], expected)
    assert not torch.allclose(embeddings(one)["depth"], expected, atol=1e-5)


def test_image_experts_are_a_choice() -> None:
    clip = tiny_clip()
    without, with_experts = build("depth", clip=clip), build("depth", clip=clip, image_experts=True)
    assert "experts image" not in without.parameter_table()
    assert "experts image" in with_experts.parameter_table()
    assert not torch.allclose(embeddings(without)["image"], embeddings(with_experts)["image"], atol=1e-5)


# ---- encoding ---------------------------------------------------------------------------------------------------


def test_forward_embeds_what_is_given_and_nothing_else() -> None:
    model, given = build(*SENSES), tiny_features()
    out = model(**given)
    assert tuple(out.embeddings) == model.modalities
    for name, vectors in out.embeddings.items():
        torch.testing.assert_close(vectors.norm(dim=-1), torch.ones(2), msg=name)
        assert torch.equal(vectors, model.embed(name, given))
    assert out.logit_scale == pytest.approx(model.clip.logit_scale.exp().item())
    assert list(model(depth_values=given["depth_values"]).embeddings) == ["depth"]


def test_batch_sizes_may_differ_between_senses() -> None:
    model = build("depth", "audio")
    out = model(depth_values=tiny_features(3)["depth_values"], audio_values=tiny_features(2)["audio_values"])
    assert {name: len(vectors) for name, vectors in out.embeddings.items()} == {"depth": 3, "audio": 2}


def test_keys_of_no_sense_are_refused() -> None:
    model = build("depth")
    with pytest.raises(
        UnknownModalityError, match=r"audio_values: unknown modality 'audio' \(known here: image, text"
    ):
        model(audio_values=torch.zeros(1, 1, 1, 32, 32))
    with pytest.raises(UnknownModalityError, match=r"'audio' \(known here: image, text, depth\)"):
        model.embed("audio", torch.zeros(1))
    with pytest.raises(UnknownModalityError, match=r"features: unknown modality 'depth' \(known here: pixel_values\)"):
        model.embed("depth", {"pixel_values": torch.zeros(1)})
    for key, message in {
        "pixle_values": "unknown key 'pixle_values'. Did you mean 'pixel_values'", "output_attentions": "unknown key",
    }.items():  # fmt: skip
        with pytest.raises(ConfigError, match=message):
            model(**{key: torch.zeros(1)})


def test_outputs_are_a_tuple_where_that_is_asked_for() -> None:
    model, given = build("depth"), tiny_features()["depth_values"]
    assert type(model(depth_values=given, return_dict=True)) is UniAlignOutput
    embeddings, scale = model(depth_values=given, return_dict=False)
    assert [*embeddings] == ["depth"] and torch.equal(scale, model.logit_scale)


def test_raw_pixels_are_refused() -> None:
    with pytest.raises(FeatureShapeError, match=r"image features are torch.uint8, not floating point"):
        build().embed("image", torch.zeros(1, 3, 32, 32, dtype=torch.uint8))


@pytest.mark.parametrize("kind", ["unialign", "llama"])
def test_a_new_model_begins_with_a_clip_and_with_nothing_else(tmp_path: Path, kind: str) -> None:
    parts = {"unialign": build("depth"), "llama": tiny_llama()}
    parts[kind].save_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match=f"the model is of type '{kind}', not 'clip'.*grows with add_modality"):
        UniAlignModel.from_clip(tmp_path, ["audio"])


def test_a_clip_without_all_its_weights_is_refused(tmp_path: Path) -> None:
    tiny_clip().save_pretrained(tmp_path)
    state = load_file(tmp_path / "model.safetensors")
    save_file({k: v for k, v in state.items() if "visual_projection" not in k}, tmp_path / "model.safetensors",
              metadata={"format": "pt"})  # fmt: skip
    with pytest.raises(CheckpointError, match="lacks the weights"):
        UniAlignModel.from_clip(tmp_path)


def test_senses_to_add_are_a_list() -> None:
    with pytest.raises(ConfigError, match=r"'depth' is one sense, not a list of them. Give \['depth'\]"):
        UniAlignModel.from_clip(tiny_clip(), "depth")


def test_images_of_another_size_are_refused() -> None:
    with pytest.raises(FeatureShapeError, match=r"image features have shape \(1, 3, 16, 16\), which this encoder"):
        build().embed("image", torch.zeros(1, 3, 16, 16))
    with pytest.raises(FeatureShapeError, match="image features have shape"):
        build().embed("image", torch.zeros(3, 32))


def test_the_logit_scale_stops_at_clips_limit() -> None:
    model = build()
    with torch.no_grad():
        model.clip.logit_scale.fill_(7.0)
    assert model.logit_scale.item() == 100.0


@pytest.mark.parametrize("name", ["image", *SENSES])
def test_tokens_have_the_shape_that_the_spec_promises(name: str) -> None:
    model, given = build(*SENSES), tiny_features()
    values = given["pixel_values" if name == "image" else f"{name}_values"]
    spec, out = model.token_spec(name), model.encode_tokens(name, values)
    assert out.tokens is not None and out.grid is not None and out.mask is not None and out.pooled is not None
    assert out.grid[1:] == spec.grid[1:]
    assert out.tokens.shape == (2, out.grid[0], spec.grid[1] * spec.grid[2], spec.dim)
    assert out.mask.shape == out.tokens.shape[:2] and out.mask.all()
    assert out.pooled.shape == (2, spec.dim)


def test_the_model_is_an_encoder_by_protocol() -> None:
    assert isinstance(build(), ModalityEncoder)


@pytest.mark.parametrize("layer", [-4, -2, 0, 1, 3])
def test_layers_count_from_either_end(layer: int) -> None:
    model, values = build("depth"), tiny_features()["depth_values"]
    tokens = [model.encode_tokens("depth", values, layer=index).tokens for index in range(4)]
    chosen = model.encode_tokens("depth", values, layer=layer).tokens
    expected = tokens[layer % 4]
    assert chosen is not None and expected is not None
    assert torch.equal(chosen, expected)
    assert layer in (-1, 3) or not torch.equal(chosen, tokens[3] if tokens[3] is not None else chosen)


@pytest.mark.parametrize("layer", [-5, 4])
def test_a_layer_that_is_not_there_is_refused(layer: int) -> None:
    with pytest.raises(ConfigError, match=f"depth: there is no layer {layer}"):
        build("depth").encode_tokens("depth", tiny_features()["depth_values"], layer=layer)


def test_padded_steps_do_not_count() -> None:
    model, values = build("video"), tiny_features()["video_values"]
    mask = torch.tensor([[True, True, False, False]] * 2)
    torch.testing.assert_close(model.embed("video", values, mask), model.embed("video", values[:, :2]))
    torch.testing.assert_close(model(video_values=values, video_mask=mask).embeddings["video"],
                               model.embed("video", values[:, :2]))  # fmt: skip


def test_a_mask_of_another_length_is_refused() -> None:
    model, values = build("video"), tiny_features()["video_values"]
    with pytest.raises(FeatureShapeError, match=r"a mask of shape \(2, 3\) does not fit 2 samples of 4 steps"):
        model.embed("video", values, torch.ones(2, 3, dtype=torch.bool))


def test_padding_that_is_not_finite_does_not_spread() -> None:
    model, values = build("video"), tiny_features()["video_values"]
    mask = torch.tensor([[True, True, False, False]] * 2)
    expected = model.embed("video", values, mask)
    values[:, 2:] = torch.nan
    assert torch.equal(model.embed("video", values, mask), expected)


@pytest.mark.parametrize("unified_text", [False, True])
@pytest.mark.parametrize(
    ("ids", "mask", "reason"),
    [
        (torch.ones(5, dtype=torch.long), None, r"have shape \(5,\), expected \(batch, length\) of at most 16 tokens"),
        (torch.ones(1, 17, dtype=torch.long), None, r"have shape \(1, 17\), expected \(batch, length\)"),
        (torch.full((1, 3), 64), None, "are no whole numbers from 0 to 63"),
        (torch.full((1, 3), -1), None, "are no whole numbers from 0 to 63"),
        (torch.ones(1, 3), None, "are no whole numbers from 0 to 63"),
        (
            torch.ones(2, 3, dtype=torch.long),
            torch.ones(1, 3, dtype=torch.long),
            r"have shape \(2, 3\), and their mask \(1, 3\)",
        ),
    ],
)
def test_texts_that_fit_no_tower_are_refused(
    ids: Tensor, mask: Tensor | None, reason: str, unified_text: bool
) -> None:
    with pytest.raises(FeatureShapeError, match=f"text features {reason}"):
        build(unified_text=unified_text).embed("text", ids, mask)


@pytest.mark.parametrize("name", ["image", "text", "depth", "video", "point_cloud"])
def test_a_batch_without_samples_is_refused_by_the_name_of_its_sense(name: str) -> None:
    values = tiny_features()[{"image": "pixel_values", "text": "input_ids"}.get(name, f"{name}_values")]
    with pytest.raises(FeatureShapeError, match=rf"{name}: the features have shape \(0, .*which holds nothing"):
        build("depth", "video", "point_cloud").embed(name, values[:0])


def test_tokens_of_texts_are_as_many_as_the_grid_says() -> None:
    out = build(unified_text=True).encode_tokens("text", tiny_features()["input_ids"])
    assert out.tokens is not None and out.grid == (1, 1, 4) and out.tokens.shape[1:3] == (1, 4)


def test_unified_text_goes_through_the_shared_encoder_and_ignores_padding() -> None:
    model, given = build(unified_text=True), tiny_features()
    ids, mask = given["input_ids"], given["attention_mask"]
    vectors = model.embed("text", ids, mask)
    changed = torch.where(mask.bool(), ids, 9)
    torch.testing.assert_close(model.embed("text", changed, mask), vectors)
    assert model.encode_tokens("text", ids, mask=mask).grid == (1, 1, 4)
    assert "experts text" in model.parameter_table()


def test_text_has_no_shared_tokens_without_the_unified_path() -> None:
    with pytest.raises(ConfigError, match="text has no tokens of the shared encoder"):
        build().token_spec("text")
    with pytest.raises(ConfigError, match="unified_text=True"):
        build().encode_tokens("text", tiny_features()["input_ids"])


@pytest.mark.parametrize("channels", [1, 3])
def test_a_depth_map_may_also_be_read_as_an_image(channels: int) -> None:
    """Both embeddings averaged; a one-frame video with depth's experts is depth through the image tokenizer."""
    clip, values = tiny_clip(), torch.randn(2, channels, 32, 32)
    depth = Modality(name="depth", kind="grid", channels=channels)
    both = UniAlignModel.from_clip(clip, [depth], image_tokenized=["depth"])
    own, video = (UniAlignModel.from_clip(clip, [sense]) for sense in (depth, SENSES["video"]))
    for model in (both, own):
        wake(model)
    experts = {name.replace("groups.depth", "groups.video"): value for name, value in own.experts.state_dict().items()}
    video.experts.load_state_dict(experts)
    as_image = video.embed("video", values.expand(-1, 3, -1, -1).unsqueeze(1))
    expected = F.normalize(own.embed("depth", values) + as_image, dim=-1)
    torch.testing.assert_close(both.embed("depth", values), expected, atol=1e-5, rtol=0)


def test_only_pictures_pass_for_an_image() -> None:
    model = build("point_cloud", image_tokenized=["point_cloud"])
    with pytest.raises(FeatureShapeError, match="cannot pass for an image"):
        model.embed("point_cloud", tiny_features()["point_cloud_values"])


# ---- what trains ------------------------------------------------------------------------------------------------


def test_the_freezing_table_of_a_stage_names_exactly_what_trains() -> None:
    model = build("depth", "audio", routing="global", image_experts=True)
    apply_freezing(model, model.freezing(["audio"]))
    trains = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    expected = {f"tokenizers.audio.{part}" for part in ("projection.weight", "position")}
    for block, site in product(range(3), ("fc1", "fc2")):
        place = f"experts.blocks.{block}.sites.{site}"
        expected |= {f"{place}.groups.audio.{part}" for part in ("down", "up")}
        expected |= {f"{place}.routers.audio.{other}.weight" for other in ("depth", "image")}
    assert trains == expected


def test_the_temperature_trains_on_request_only() -> None:
    assert not build("depth").clip.logit_scale.requires_grad
    model = build("depth", train_logit_scale=True)
    apply_freezing(model, model.freezing([]))
    assert [name for name, p in model.named_parameters() if p.requires_grad] == ["clip.logit_scale"]


def test_the_image_without_experts_has_nothing_to_train() -> None:
    model = build("depth")
    apply_freezing(model, model.freezing(["image", "text"]))
    assert not any(parameter.requires_grad for parameter in model.parameters())


def test_the_parameter_table_counts_every_parameter_once() -> None:
    model = build(*SENSES, unified_text=True)
    table = model.parameter_table()
    assert sum(total for total, _ in table.values()) == sum(p.numel() for p in model.parameters())
    assert table["base"] == (sum(p.numel() for p in model.clip.parameters()), 0)
    fc1, fc2 = 2 * 4 * (32 + 64) + 2 * 32, 2 * 4 * (64 + 32) + 2 * 64  # A and B of two experts of rank 4, and router
    assert table["experts depth"] == (3 * (fc1 + fc2),) * 2


def test_only_tokenizers_and_experts_receive_gradients() -> None:
    model = build("depth", "audio").train()
    model.embed("depth", tiny_features()["depth_values"]).sum().backward()
    touched = {name for name, parameter in model.named_parameters() if parameter.grad is not None}
    assert touched and all(".depth." in f"{name}" for name in touched)


def gradients(model: UniAlignModel, names: list[str]) -> dict[str, Tensor]:
    """Gradients of one step over several senses at once: forward of all, then one backward."""
    model.zero_grad()
    given = tiny_features()
    out = model(**{f"{name}_values": given[f"{name}_values"] for name in names}).embeddings
    first, *others = (out[name] for name in names)
    loss = torch.stack([((first @ other.t()) ** 2).sum() for other in others]).sum()
    loss.backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("config", VARIANTS, ids=str)
def test_activation_checkpointing_gives_the_same_gradients_with_two_senses_in_a_step(config: dict[str, Any]) -> None:
    model = build("depth", "audio", "point_cloud", **config).train()
    expected = gradients(model, ["depth", "audio"])
    newer_name = getattr(model, "activation_checkpointing_enable", None)
    (newer_name or model.gradient_checkpointing_enable)()
    assert model.experts.gradient_checkpointing
    found = gradients(model, ["depth", "audio"])
    assert found.keys() == expected.keys() and len(found) > 10
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, atol=1e-6, rtol=1e-6, msg=name)


# ---- cost -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("config", [{"expert_site": site, "routing": "group"} for site in SITES], ids=str)
def test_the_cost_of_a_sense_does_not_depend_on_how_many_there_are(config: dict[str, Any]) -> None:
    few, values = build("depth", **config), tiny_features()["depth_values"]
    many = build(*SENSES, **config)
    for index in range(8 - len(SENSES)):
        many.add_modality(Modality(name=f"further_{index}", kind="grid"))
    assert len(many.config.modalities) == 8
    with torch.no_grad():
        costs = [
            (flops(call), parameter_bytes(model, call))
            for model in (few, many)
            for call in [partial(model.embed, "depth", values)]
        ]
    assert costs[0] == costs[1]
    assert min(costs[0]) > 0


# ---- saving -----------------------------------------------------------------------------------------------------

SAVED: list[dict[str, Any]] = [
    {},
    {"expert_site": "block", "image_experts": True, "unified_text": True},
    {"routing": "global", "top_k": 1, "image_tokenized": ["depth"]},
    {"expert_init": "svd", "num_experts": 3, "train_logit_scale": True},
]


@pytest.mark.parametrize("config", SAVED, ids=str)
@pytest.mark.parametrize("shards", [False, True], ids=["one file", "shards"])
def test_saving_and_loading_is_bit_equal_by_class_and_by_auto_class(
    config: dict[str, Any], shards: bool, tmp_path: Path
) -> None:
    from transformers import AutoModel

    model = build(*SENSES, **config)
    model.save_pretrained(tmp_path, max_shard_size="100KB" if shards else "5GB")
    assert (tmp_path / "model.safetensors.index.json").exists() == shards
    expected, frozen = embeddings(model), {n for n, p in model.named_parameters() if not p.requires_grad}
    for loaded in (UniAlignModel.from_pretrained(tmp_path), AutoModel.from_pretrained(tmp_path)):
        assert type(loaded) is UniAlignModel and not loaded.training
        assert loaded.config.to_dict().keys() == model.config.to_dict().keys()
        state = loaded.state_dict()
        assert state.keys() == model.state_dict().keys()
        assert all(torch.equal(state[name], value) for name, value in model.state_dict().items())
        assert all(torch.equal(value, expected[name]) for name, value in embeddings(loaded).items())
        assert {n for n, p in loaded.named_parameters() if not p.requires_grad} == frozen


def test_a_loaded_model_takes_a_further_sense_like_the_saved_one(tmp_path: Path) -> None:
    model = build("depth")
    model.save_pretrained(tmp_path)
    loaded = UniAlignModel.from_pretrained(tmp_path)
    for each in (model, loaded):
        each.add_modality(SENSES["audio"], seed=5)
    assert all(torch.equal(loaded.state_dict()[name], value) for name, value in model.state_dict().items())


def test_precision_is_kept_or_chosen(tmp_path: Path) -> None:
    build("depth").bfloat16().save_pretrained(tmp_path)
    assert UniAlignModel.from_pretrained(tmp_path).dtype == torch.bfloat16
    assert UniAlignModel.from_pretrained(tmp_path, dtype=torch.float32).dtype == torch.float32


def test_a_clip_may_be_a_folder(clip_folder: Path) -> None:
    model = UniAlignModel.from_clip(clip_folder, [SENSES["depth"]])
    again = UniAlignModel.from_clip(str(clip_folder), [SENSES["depth"]])
    assert all(torch.equal(again.state_dict()[name], value) for name, value in model.state_dict().items())
    assert isinstance(model.config, UniAlignConfig)
