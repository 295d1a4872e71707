from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor, nn
from transformers import AutoModel, AutoModelForImageTextToText, AutoModelForMultimodalLM

from polysense.continual import apply_freezing
from polysense.errors import CheckpointError, ConfigError, FeatureShapeError, PolysenseError, UnknownModalityError
from polysense.models.mera import MeraForConditionalGeneration, MeraModel
from polysense.testing import tiny_features, tiny_llama, tiny_llava, tiny_mera
from polysense.testing.counting import flops
from tests.models.mera.prompts import features, labels_of, padded, prompt

SENSES = ("video", "audio", "depth", "point_cloud")
EXACT: dict[str, Any] = {
    "max_new_tokens": 5,
    "min_new_tokens": 5,
}  # a random model may end at once, which would test nothing


@pytest.fixture
def model() -> MeraForConditionalGeneration:
    return tiny_mera(*SENSES)


def mixed(model: Any) -> dict[str, Tensor]:
    """Three prompts: two images and a sound between words, a video and a depth map, and words alone."""
    first = prompt(model, 1, "image", 5, "audio", 6, "image", 7, 8, 9)
    second = prompt(model, 1, "video", 4, "depth", 3, 9, 30)
    return {**padded([first, second, [1, 40, 41, 42]]), **features(image=2, audio=1, video=1, depth=1)}


def rows_of(batch: dict[str, Tensor]) -> list[dict[str, Tensor]]:
    """The three prompts of `mixed` without padding, each with its own items."""
    own = (("pixel_values", "audio_values"), ("video_values", "depth_values"), ())
    real = [ids[mask.bool()][None] for ids, mask in zip(batch["input_ids"], batch["attention_mask"], strict=True)]
    return [{"input_ids": ids, **{key: batch[key] for key in keys}} for ids, keys in zip(real, own, strict=True)]


# ---- features among words ---------------------------------------------------------------------------------------


def test_features_stand_in_the_places_of_their_placeholders(model: MeraForConditionalGeneration) -> None:
    given = mixed(model)
    table, row = model.get_input_embeddings(), given["input_ids"][0]
    images = model.model.connect("image", model.encode("image", given["pixel_values"]).tokens)  # type: ignore[arg-type]
    sound = model.model.connect("audio", model.encode("audio", given["audio_values"]).tokens)  # type: ignore[arg-type]
    words = [table(row[row < 90])]
    start = len(row) - len(prompt(model, 1, "image", 5, "audio", 6, "image", 7, 8, 9))
    word = words[0][start:]
    expected = torch.cat([words[0][: start + 1], images[0], word[1:2], sound[0], word[2:3], images[1], word[3:]])
    seen: list[Tensor] = []
    model.model.language_model.register_forward_pre_hook(
        lambda module, args, kwargs: seen.append(kwargs["inputs_embeds"]), with_kwargs=True
    )
    model(**given)
    torch.testing.assert_close(seen[0][0], expected, atol=1e-6, rtol=1e-5)


def test_a_sample_does_not_depend_on_the_others(model: MeraForConditionalGeneration) -> None:
    """Every row of a padded batch, with its own items, gives what it gives alone."""
    given = mixed(model)
    together = model(**given).logits
    for index, row in enumerate(rows_of(given)):
        real = given["attention_mask"][index].bool()
        torch.testing.assert_close(together[index, real], model(**row).logits[0], atol=1e-5, rtol=1e-4)


def test_frozen_tokens_may_be_cached(model: MeraForConditionalGeneration) -> None:
    given = mixed(model)
    expected = model(**given).logits
    for name, key in (("image", "pixel_values"), ("audio", "audio_values"), ("video", "video_values")):
        given[f"{name}_tokens"] = model.encode(name, given.pop(key)).tokens  # type: ignore[assignment]
    assert not given["video_tokens"].requires_grad and given["video_tokens"].shape == (1, 4, 4, 32)
    assert torch.equal(model(**given).logits, expected)


@pytest.mark.parametrize("sense", ["video", "audio"])
def test_items_may_differ_in_length(sense: str) -> None:
    model, token = tiny_mera(sense), tiny_mera(sense).config.senses[sense].token_id
    values = tiny_features()[f"{sense}_values"]
    steps, count = values.shape[1], model.token_layout(sense).count
    mask = torch.arange(steps) < torch.tensor([1, steps])[:, None]
    given = padded([[1, *[token] * count(1), 5], [1, *[token] * count(steps), 6]])
    together = model(**given, **{f"{sense}_values": values, f"{sense}_mask": mask}).logits
    short = {"input_ids": torch.tensor([[1, *[token] * count(1), 5]]), f"{sense}_values": values[:1, :1]}
    torch.testing.assert_close(together[0, -1], model(**short).logits[0, -1], atol=1e-5, rtol=1e-4)
    whole = {"input_ids": torch.tensor([[1, *[token] * count(steps), 6]]), f"{sense}_values": values[1:]}
    torch.testing.assert_close(together[1, -1], model(**whole).logits[0, -1], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("row", [[False, True, True, True], [False] * 4])
def test_a_mask_with_padding_in_front_or_nothing_real_is_refused(row: list[bool]) -> None:
    model = tiny_mera("video")
    given = padded([prompt(model, 1, "video")])
    with pytest.raises(FeatureShapeError, match="the mask of video has an item without real steps, or padding before"):
        model(**given, **features(video=1), video_mask=torch.tensor([row]))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"pixel_values": 3}, r"image of sample 2 \(or before\): 3 items came for placeholders <image> of 2"),
        ({"pixel_values": 1}, "image of sample 0: there are 32 placeholders <image>, and 1 items"),
        ({"pixel_values": None}, "image of sample 0: there are 32 placeholders <image>, and no features"),
        ({"depth_values": None}, "depth of sample 1: there are 16 placeholders <depth>, and no features"),
    ],
)
def test_surplus_and_deficit_name_sample_and_sense(
    model: MeraForConditionalGeneration, changes: dict[str, int | None], message: str
) -> None:
    """`masked_scatter` would swallow a surplus."""
    given = mixed(model)
    for key, count in changes.items():
        given[key] = None if count is None else tiny_features(count)[key]  # type: ignore[assignment]
    with pytest.raises(FeatureShapeError, match=message):
        model(**given)
    with pytest.raises(FeatureShapeError, match=message):
        model.generate(**given, **EXACT)


def test_a_sense_that_was_not_learned_is_named() -> None:
    model = tiny_mera()
    for call in (model, partial(model.generate, **EXACT)):
        with pytest.raises(UnknownModalityError, match="audio_values: unknown modality 'audio'"):
            call(**padded([[1, 5]]), **features(audio=1))
    with pytest.raises(UnknownModalityError, match=r"unknown modality 'audio' \(known here: image\)"):
        model.encode("audio", torch.zeros(1))


def test_inputs_are_ids_or_vectors(model: MeraForConditionalGeneration) -> None:
    given = padded([[1, 5, 6]])
    vectors = model.get_input_embeddings()(given["input_ids"])
    assert torch.equal(model(inputs_embeds=vectors).logits, model(**given).logits)
    for wrong in ({}, {"input_ids": given["input_ids"], "inputs_embeds": vectors},
                  {"inputs_embeds": vectors, **features(image=1)}):  # fmt: skip
        with pytest.raises(ConfigError, match="give input_ids or inputs_embeds, and with features input_ids"):
            model(**wrong)


def test_inputs_of_other_shapes_are_refused(model: MeraForConditionalGeneration) -> None:
    given = padded([[1, 5, 6]])
    with pytest.raises(ConfigError, match=r"labels: the labels are torch.int64 of shape \(1, 2\)"):
        model(**given, labels=given["input_ids"][:, 1:])
    with pytest.raises(ConfigError, match="labels of sample 0: the id 99 is none of the 96"):
        model(**given, labels=given["input_ids"].masked_fill(given["input_ids"] == 5, 99))
    with pytest.raises(ConfigError, match=r"input_ids: the ids are torch.int64 of shape \(3,\)"):
        model.generate(input_ids=given["input_ids"][0], **EXACT)
    with pytest.raises(FeatureShapeError, match="tokens of image are 1 wide, and their connector takes 32"):
        model(**given, image_tokens=torch.zeros(1, 1, 16, 1))


@pytest.mark.parametrize("wrong", [-1, -100, 100])
def test_ids_beyond_the_vocabulary_are_refused(model: MeraForConditionalGeneration, wrong: int) -> None:
    assert {sense.token_id for sense in model.config.senses.values()} == {95, 96, 97, 98, 99}
    given = mixed(model)
    given["input_ids"][1, -1] = wrong
    for call in (model, model.model, partial(model.generate, **EXACT)):
        with pytest.raises(ConfigError, match=f"input_ids of sample 1: the id {wrong} is none of the 96"):
            call(**given)


def test_masks_of_other_shapes_are_refused(model: MeraForConditionalGeneration) -> None:
    given = padded([[1, 5, 6], [1, 7, 8]])
    for mask in (given["attention_mask"][:, 1:], given["attention_mask"][0], given["attention_mask"][:1]):
        for call in (model, model.model, partial(model.generate, **EXACT)):
            with pytest.raises(ConfigError, match="attention_mask: the mask has shape"):
                call(input_ids=given["input_ids"], attention_mask=mask)
    vectors = model.get_input_embeddings()(given["input_ids"])
    with pytest.raises(ConfigError, match=r"attention_mask: the mask has shape \(3,\), the texts \(2, 3\)"):
        model(inputs_embeds=vectors, attention_mask=mask[0])


# ---- the loss ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("items", [None, 11])
@pytest.mark.parametrize("side", ["left", "right"])
def test_the_loss_of_labels_alone_is_the_loss_of_all_logits(side: str, items: int | None) -> None:
    model = tiny_mera("audio")
    rows = [prompt(model, 1, "audio", 5, 6, 7), prompt(model, 1, 9, "audio", 8, 4, 3, 30)]
    given = {**padded(rows, side), **features(audio=2)}
    labels = torch.where((given["input_ids"] < 60) & given["attention_mask"].bool(), given["input_ids"], -100)
    found = model(**given, labels=labels, num_items_in_batch=items)
    found.loss.backward()
    gradients = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    shifted = model(**given).logits[:, :-1].flatten(0, 1)
    total = nn.functional.cross_entropy(shifted, labels[:, 1:].flatten(), reduction="sum", ignore_index=-100)
    expected = total / (items or (labels[:, 1:] != -100).sum())
    expected.backward()
    torch.testing.assert_close(found.loss, expected, atol=1e-6, rtol=1e-6)
    assert any("connectors" in name for name in gradients) and not any("encoders" in name for name in gradients)
    for name, parameter in model.named_parameters():
        if parameter.grad is not None:
            torch.testing.assert_close(gradients[name], parameter.grad, atol=1e-6, rtol=1e-5, msg=name)


def test_the_head_sees_labelled_positions_and_nothing_else(model: MeraForConditionalGeneration) -> None:
    rows: list[int] = []
    model.lm_head.register_forward_hook(lambda module, inputs, out: rows.append(inputs[0].shape[:-1].numel()))
    given = mixed(model)
    out = model(**given, labels=labels_of(given, last=2))
    assert rows == [6] and out.logits is None and out.cache is None
    out = model(**given, labels=labels_of(given, last=2), logits_to_keep=1)
    assert rows[1:] in ([6, 3], [3, 6])
    torch.testing.assert_close(out.logits, model(**given).logits[:, -1:], atol=1e-6, rtol=1e-5)


def test_a_batch_without_labels_costs_nothing_and_breaks_nothing(model: MeraForConditionalGeneration) -> None:
    given = mixed(model)
    loss = model(**given, labels=torch.full_like(given["input_ids"], -100)).loss
    loss.backward()
    assert loss.item() == 0.0


def test_logits_can_be_kept_in_part(model: MeraForConditionalGeneration) -> None:
    given = mixed(model)
    whole = model(**given).logits
    torch.testing.assert_close(model(**given, logits_to_keep=2).logits, whole[:, -2:], atol=1e-6, rtol=1e-5)
    chosen = torch.tensor([0, 3])
    torch.testing.assert_close(model(**given, logits_to_keep=chosen).logits, whole[:, chosen], atol=1e-6, rtol=1e-5)


def test_outputs_can_be_tuples_and_hold_what_was_asked_for(model: MeraForConditionalGeneration) -> None:
    given = mixed(model)
    assert isinstance(model(**given, return_dict=False), tuple)
    assert len(model(**given, output_hidden_states=True).hidden_states) == 3


# ---- generation -------------------------------------------------------------------------------------------------


def test_a_padded_row_generates_what_it_generates_alone(model: MeraForConditionalGeneration) -> None:
    given = mixed(model)
    together = model.generate(**given, **EXACT)
    for index, row in enumerate(rows_of(given)):
        assert torch.equal(model.generate(**row, **EXACT)[0, -5:], together[index, -5:])


def test_the_cache_changes_no_token(model: MeraForConditionalGeneration) -> None:
    given = mixed(model)
    cached = model.generate(**given, **EXACT)
    ids, mask = given.pop("input_ids"), given.pop("attention_mask")
    for _ in range(5):
        step = model(input_ids=ids, attention_mask=mask, position_ids=(mask.cumsum(1) - 1).clamp(min=0), **given)
        ids = torch.cat([ids, step.logits[:, -1:].argmax(-1)], dim=1)
        mask = torch.cat([mask, mask.new_ones(3, 1)], dim=1)
    assert torch.equal(cached, ids)


@pytest.mark.filterwarnings("ignore:`past_key_values` is deprecated:FutureWarning")
@pytest.mark.parametrize("keyword", ["cache", "past_key_values"])
def test_a_cache_may_be_continued_with_a_further_item(model: MeraForConditionalGeneration, keyword: str) -> None:
    first, second = prompt(model, 1, "image", 5), prompt(model, 6, "audio", 7)
    items = features(image=1, audio=1)
    begun = model(input_ids=torch.tensor([first]), pixel_values=items["pixel_values"], use_cache=True)
    went_on = model(input_ids=torch.tensor([second]), audio_values=items["audio_values"], **{keyword: begun.cache})
    whole = model(input_ids=torch.tensor([[*first, *second]]), **items)
    torch.testing.assert_close(went_on.logits, whole.logits[:, len(first) :], atol=1e-5, rtol=1e-4)


OPTIONS: list[dict[str, Any]] = [
    {}, {"num_beams": 3}, {"num_beams": 2, "num_return_sequences": 2}, {"do_sample": True, "num_return_sequences": 3},
    {"repetition_penalty": 1.5, "no_repeat_ngram_size": 2}, {"return_dict_in_generate": True, "output_logits": True},
]  # fmt: skip


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_features_are_encoded_once_and_prompts_come_back_whole(
    model: MeraForConditionalGeneration, options: dict[str, Any]
) -> None:
    """Placeholders without a row in the embeddings included (audio, video, depth)."""
    calls: list[str] = []
    for name, connector in model.model.connectors.items():
        connector.register_forward_hook(lambda module, inputs, out, name=name: calls.append(name))
    given = mixed(model)
    out = model.generate(**given, **EXACT, **options)
    sequences = out if isinstance(out, Tensor) else out.sequences
    copies, length = options.get("num_return_sequences", 1), given["input_ids"].shape[1]
    assert sequences.shape == (3 * copies, length + 5)
    assert torch.equal(sequences[:, :length], given["input_ids"].repeat_interleave(copies, dim=0))
    assert sequences[:, length:].max() < 96
    assert sorted(calls) == ["audio", "depth", "image", "video"]


def test_words_alone_generate_as_the_language_model_does() -> None:
    llm, mera = tiny_llama(), MeraForConditionalGeneration.from_parts(tiny_llama())
    given = padded([[1, 5, 6], [1, 9]])
    assert torch.equal(mera.generate(**given, **EXACT), llm.generate(**given, **EXACT))
    assert torch.equal(mera.generate(given["input_ids"][:1], **EXACT), llm.generate(given["input_ids"][:1], **EXACT))


def test_a_missing_attention_mask_is_told_from_the_padding(model: MeraForConditionalGeneration) -> None:
    given = mixed(model)
    expected = model.generate(**given, **EXACT)
    del given["attention_mask"]
    assert torch.equal(model.generate(**given, **EXACT), expected)


def test_padding_within_a_prompt_is_read(model: MeraForConditionalGeneration) -> None:
    """SmolLM2 pads with the token that ends every turn of a chat."""
    rows = [[0, 0, *prompt(model, 1, 5, 0, "audio", 0, 6)], prompt(model, 1, 5, "audio", 0, 7, 0, 8, 0)]
    batch, items = {**padded(rows), **features(audio=2)}, features(audio=2)["audio_values"]
    alone = []
    for row, own in zip([rows[0][2:], rows[1]], items.split(1), strict=True):
        ids = torch.tensor([row])
        whole = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "audio_values": own}
        alone.append(model.generate(**whole, eos_token_id=0, **EXACT)[0, -5:])
    del batch["attention_mask"]
    together = model.generate(**batch, eos_token_id=[0, 2], **EXACT)
    assert torch.equal(together[:, -5:], torch.stack(alone))


def test_prompts_padded_on_the_right_are_refused(model: MeraForConditionalGeneration) -> None:
    given = padded([[1, 5, 6], [1]], side="right")
    for inputs in (given, {"input_ids": given["input_ids"]}):
        with pytest.raises(ConfigError, match="generate: the prompts are padded on the right"):
            model.generate(**inputs)


def test_a_cache_continues_a_chat_whose_features_it_has(model: MeraForConditionalGeneration) -> None:
    given = {"input_ids": torch.tensor([prompt(model, 1, 5, "audio", 8)]), **features(audio=1)}
    begun = model.generate(**given, **EXACT, return_dict_in_generate=True)
    ids = torch.cat([begun.sequences, torch.tensor([[6, 7]])], dim=1)
    expected = model.generate(input_ids=ids, audio_values=given["audio_values"], **EXACT)
    assert torch.equal(model.generate(input_ids=ids, cache=begun.cache, **EXACT), expected)


def test_guessed_tokens_would_lose_the_features_and_are_refused(model: MeraForConditionalGeneration) -> None:
    given = {"input_ids": torch.tensor([prompt(model, 1, 5, "audio", 5)]), **features(audio=1)}
    for option in ({"prompt_lookup_num_tokens": 2}, {"assistant_model": tiny_llama(1)}):
        with pytest.raises(ConfigError, match=f"generate: prompts with features cannot .* {next(iter(option))}"):
            model.generate(**given, **option)
    assert model.generate(torch.tensor([[1, 5, 6, 1, 5]]), prompt_lookup_num_tokens=2, **EXACT).shape == (1, 10)


def test_a_batch_needs_a_padding_token() -> None:
    model = MeraForConditionalGeneration.from_parts(tiny_llama(pad_token_id=None))
    given = {"input_ids": torch.tensor([[1, 5], [1, 6]])}
    with pytest.raises(ConfigError, match="there is no padding token to fill up finished answers with"):
        model.generate(**given, **EXACT)
    assert model.generate(**given, **EXACT, pad_token_id=0).shape == (2, 7)
    assert model.generate(input_ids=given["input_ids"][:1], **EXACT).shape == (1, 7)


def test_misspelt_options_of_generate_are_refused(model: MeraForConditionalGeneration) -> None:
    with pytest.raises(ValueError, match="max_new_token"):
        model.generate(**padded([[1, 5]]), max_new_token=3)


# ---- what trains ------------------------------------------------------------------------------------------------


def test_encoders_never_train(model: MeraForConditionalGeneration) -> None:
    model.train()
    assert model.training and model.model.language_model.training
    assert not any(module.training for module in model.model.encoders.modules())
    given = mixed(model)
    model(**given, labels=labels_of(given)).loss.backward()
    assert not any(parameter.requires_grad for parameter in model.model.encoders.parameters())
    trained = {
        name.split(".")[2] for name, p in model.named_parameters() if p.grad is not None and "connectors" in name
    }
    assert trained == {"image", "audio", "video", "depth"}


def test_activation_checkpointing_gives_the_same_gradients() -> None:
    def gradients(model: Any) -> dict[str, Tensor]:
        model.train()
        for module in model.modules():
            if isinstance(module, nn.Dropout):
                module.p = 0.0
        for layer in model.model.connectors["audio"].qformer.encoder.layer:
            for attention in (layer.attention, getattr(layer, "crossattention", layer.attention)):
                attention.attention.attention_dropout = 0.0
        given = mixed(model)
        model(**given, labels=labels_of(given)).loss.backward()
        return {name: p.grad for name, p in model.named_parameters() if p.grad is not None}

    expected, model = gradients(tiny_mera(*SENSES)), tiny_mera(*SENSES)
    (getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable)()
    assert model.model.language_model.gradient_checkpointing
    found = gradients(model)
    assert found.keys() == expected.keys()
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, atol=1e-6, rtol=1e-5, msg=name)


@pytest.mark.parametrize(("senses", "llm"), [(["audio"], False), (["audio", "depth"], True), ([], True)])
def test_the_freezing_table_names_exactly_what_trains(
    model: MeraForConditionalGeneration, senses: list[str], llm: bool
) -> None:
    apply_freezing(model, model.freezing(senses, language_model=llm))
    trains = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    expected = {name for name, _ in model.named_parameters()
                if any(f"connectors.{sense}." in name for sense in senses)
                or (llm and ("language_model" in name or "lm_head" in name))}  # fmt: skip
    assert trains == expected and trains


def test_the_freezing_table_knows_its_senses(model: MeraForConditionalGeneration) -> None:
    with pytest.raises(UnknownModalityError, match="'smell'"):
        model.freezing(["smell"])


def test_the_parameter_table_counts_every_parameter_once(model: MeraForConditionalGeneration) -> None:
    table = model.parameter_table()
    assert sum(total for total, _ in table.values()) == sum(p.numel() for p in model.parameters())
    assert table["connector image"] == (2 * (32 * 32 + 32),) * 2
    assert table["encoder audio"][1] == 0 and table["encoder image"][1] == 0
    assert table["language model"][0] == sum(p.numel() for p in tiny_llama().parameters())


def test_lora_finds_the_language_models_linears_and_answers(model: MeraForConditionalGeneration) -> None:
    given = mixed(model)
    before = model.generate(**given, **EXACT)
    pattern = r".*language_model\.layers\.\d+\.(self_attn|mlp)\.\w+_proj"
    adapted: Any = get_peft_model(model, LoraConfig(r=2, target_modules=pattern))
    assert torch.equal(adapted.generate(**given, **EXACT), before)
    adapted(**given, labels=labels_of(given)).loss.backward()
    touched = {name for name, p in adapted.named_parameters() if p.grad is not None}
    assert touched and all("lora_" in name and "language_model" in name for name in touched)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_connectors_keep_full_precision_masters(dtype: torch.dtype, tmp_path: Path) -> None:
    tiny_mera("audio").save_pretrained(tmp_path / "full")
    model = MeraForConditionalGeneration.from_pretrained(tmp_path / "full", dtype=dtype)
    with torch.no_grad():
        for parameter in model.model.connectors.parameters():
            parameter.add_(1e-6)  # less than half precision can hold
    model.save_pretrained(tmp_path / "half")
    loaded = MeraForConditionalGeneration.from_pretrained(tmp_path / "half")
    for each in (model, loaded):
        types = {name.split(".")[1]: parameter.dtype for name, parameter in each.named_parameters()}
        assert types == {"encoders": dtype, "connectors": torch.float32, "language_model": dtype, "weight": dtype}
    assert all(torch.equal(loaded.state_dict()[name], value) for name, value in model.state_dict().items())
    given = {**padded([prompt(model, 1, "audio", 5, 6, 7)]), **features(audio=1)}
    loaded(**given, labels=labels_of(given)).loss.backward()
    gradients = [parameter.grad for parameter in loaded.model.connectors["audio"].parameters()]
    assert all(g is not None and g.dtype == torch.float32 and g.isfinite().all() for g in gradients)


# ---- cost -------------------------------------------------------------------------------------------------------


def test_a_generated_token_costs_what_it_costs_the_bare_language_model() -> None:
    """Exact counts, at one sense and at six."""
    llm = tiny_llama()
    models = [llm, MeraForConditionalGeneration.from_llava(tiny_llava()),
              tiny_mera("video", "audio", "speech", "depth", "point_cloud")]  # fmt: skip
    assert len(models[2].modalities) == 6

    def step(model: Any) -> int:
        with torch.no_grad():
            cache = model(input_ids=torch.tensor([[1, 5, 6, 7]]), use_cache=True).cache
            return flops(lambda: model(input_ids=torch.tensor([[9]]), cache=cache, use_cache=True))

    assert step(models[0]) == step(models[1]) == step(models[2]) > 0


# ---- saving -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shards", [False, True], ids=["one file", "shards"])
def test_saving_and_loading_is_bit_equal_by_class_and_by_auto_class(
    model: MeraForConditionalGeneration, shards: bool, tmp_path: Path
) -> None:
    model.save_pretrained(tmp_path, max_shard_size="100KB" if shards else "5GB")
    assert (tmp_path / "model.safetensors.index.json").exists() == shards
    given, expected = mixed(model), model(**mixed(model)).logits
    frozen = {name for name, parameter in model.named_parameters() if not parameter.requires_grad}
    for auto in (MeraForConditionalGeneration, AutoModelForImageTextToText, AutoModelForMultimodalLM):
        loaded = auto.from_pretrained(tmp_path)
        assert type(loaded) is MeraForConditionalGeneration and not loaded.training
        assert torch.equal(loaded(**given).logits, expected)
        assert loaded.state_dict().keys() == model.state_dict().keys()
        assert {name for name, parameter in loaded.named_parameters() if not parameter.requires_grad} == frozen
    body = AutoModel.from_pretrained(tmp_path)
    assert type(body) is MeraModel
    assert torch.equal(body(**given).last_hidden_state, model.model(**given).last_hidden_state)


HOSTILE: dict[str, Any] = {
    "code": lambda c: c.update(auto_map={"AutoModel": "evil.Model"}),
    "code of an encoder": lambda c: c["encoder_configs"]["image"].update(auto_map={"AutoModel": "evil.Model"}),
    "kernels of the base": lambda c: c["encoder_configs"]["image"]["base_config"].update(
        _attn_implementation="evil/kernels"
    ),
    "wide language model": lambda c: c["text_config"].update(hidden_size=10**9),
    "wide enough to pass": lambda c: c["text_config"].update(hidden_size=65536, intermediate_size=131072),
    "many words": lambda c: c["text_config"].update(vocab_size=3_000_000),
    "deep language model": lambda c: c["text_config"].update(num_hidden_layers=10**7),
    "no heads": lambda c: c["text_config"].update(num_attention_heads=0),
    "an encoder that is none": lambda c: c["encoder_configs"].update(image=c["text_config"]),
    "an encoder of nothing": lambda c: c["encoder_configs"].update(image={"model_type": "os"}),
    "a connector of nothing": lambda c: c["modalities"]["image"].update(connector={"kind": "os"}),
    "a connector that is wide": lambda c: c["modalities"]["image"].update(
        connector={"kind": "mlp", "hidden_dims": [65536, 65536]}
    ),
    "a connector with a hook": lambda c: c["modalities"]["image"].update(connector={"kind": "mlp", "hook": "evil"}),
    "a sense of another encoder": lambda c: c["modalities"]["image"].update(encoder="nowhere"),
    "a sense with a path": lambda c: c["modalities"].update({"../x": c["modalities"]["image"]}),
    "senses are a list": lambda c: c.update(modalities=["image"]),
    "another head": lambda c: c.update(tie_word_embeddings=True, text_config={**c["text_config"], "vocab_size": 97}),
}


@pytest.mark.parametrize("payload", HOSTILE)
def test_a_hostile_or_mistaken_config_is_refused(payload: str, tmp_path: Path) -> None:
    tiny_mera().save_pretrained(tmp_path)
    values = json.loads((tmp_path / "config.json").read_text())
    HOSTILE[payload](values)
    (tmp_path / "config.json").write_text(json.dumps(values))
    with pytest.raises(PolysenseError) as caught:
        MeraForConditionalGeneration.from_pretrained(tmp_path)
    assert caught.value.fix


def test_a_missing_connector_is_named(tmp_path: Path) -> None:
    model = tiny_mera("audio")
    model.save_pretrained(tmp_path)
    state = {name: value for name, value in model.state_dict().items() if "connectors.audio.output" not in name}
    state["spare"] = torch.zeros(10_000)
    model.save_pretrained(tmp_path, state_dict=state)
    with pytest.raises(CheckpointError, match=r"missing_keys \['model.connectors.audio.output"):
        MeraForConditionalGeneration.from_pretrained(tmp_path)
