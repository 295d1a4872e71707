from __future__ import annotations

import inspect
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from tokenizers import Tokenizer, models, normalizers
from transformers import AutoProcessor, BatchFeature, CLIPImageProcessorPil, LlavaProcessor, PreTrainedTokenizerFast

from polysense import Modality
from polysense import modality as registry
from polysense.errors import (
    ConfigError,
    FeatureShapeError,
    MediaError,
    UnknownModalityError,
    UnregisteredModalityError,
)
from polysense.modality import get_modality
from polysense.models.encoders import BEATS_PROCESSOR, BeatsConfig, BeatsEncoder, PointBertConfig, PointBertEncoder
from polysense.models.mera import MeraForConditionalGeneration, MeraProcessor
from polysense.models.mera.prompting import Side
from polysense.testing import tiny_llava, tiny_mera, tiny_tokenizer

SENSES = ("video", "audio", "depth", "point_cloud")
OPTIONS: dict[str, dict[str, Any]] = {"point_cloud": {"num_groups": 8, "group_size": 6}, "video": {"num_frames": 3}}
FACTS: list[dict[str, Any]] = [{"intrinsics": [30.0, 30.0], "baseline": 0.075}]
EXACT: dict[str, Any] = {"max_new_tokens": 4, "min_new_tokens": 4}


def pictures(size: int = 32) -> CLIPImageProcessorPil:
    return CLIPImageProcessorPil(size={"shortest_edge": size}, crop_size={"height": size, "width": size})


@pytest.fixture(scope="module")
def model() -> MeraForConditionalGeneration:
    return tiny_mera(*SENSES)


@pytest.fixture
def processor(model: MeraForConditionalGeneration) -> MeraProcessor:
    return MeraProcessor.from_model(model, tiny_tokenizer(), pictures(), OPTIONS)


def raw(seed: int = 0) -> dict[str, Any]:
    """One item of every sense, as an array."""
    rng = np.random.default_rng(seed)
    return {
        "image": rng.integers(0, 255, (40, 36, 3), dtype=np.uint8),
        "video": rng.integers(0, 255, (5, 40, 36, 3), dtype=np.uint8),
        "audio": {"array": rng.standard_normal(16_000).astype(np.float32) / 9, "sampling_rate": 16_000},
        "depth": rng.uniform(0.5, 3.0, (40, 40)).astype(np.float32),
        "point_cloud": rng.standard_normal((300, 6)).astype(np.float32) % 1.0,
    }


def same(left: BatchFeature, right: BatchFeature) -> bool:
    return left.keys() == right.keys() and all(torch.equal(left[key], right[key]) for key in left)


# ---- counting ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["image", *SENSES])
def test_processor_and_model_count_the_same_tokens(
    model: MeraForConditionalGeneration, processor: MeraProcessor, name: str
) -> None:
    """Through every sense's own features: what the processor writes is what the model puts in its place."""
    facts = {name: FACTS} if name == "depth" else None
    given: dict[str, Any] = {name: [raw()[name]]}
    batch = processor(text=f"what is <{name}> ?", facts=facts, **given)
    places = int((batch["input_ids"] == processor.token_id(name)).sum())
    values = batch["pixel_values" if name == "image" else f"{name}_values"]
    encoded = model.encode(name, values)
    assert encoded.tokens is not None
    assert [places] == [len(item) for item in model.model.connect(name, encoded.tokens, encoded.mask)]
    assert processor.layout(name) == model.token_layout(name)
    assert model.generate(**batch, **EXACT).shape == (1, batch["input_ids"].shape[1] + 4)


def test_the_papers_encoders_and_processors_count_the_same_tokens() -> None:
    """BEATs on a second of sound and Point-BERT with its class token, at tiny widths."""
    sizes = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    beats = BeatsEncoder(BeatsConfig(**sizes, patch_dim=16, conv_kernel=8, max_length=98))
    points = PointBertEncoder(PointBertConfig(**sizes, num_groups=12, point_width=4))
    model = MeraForConditionalGeneration.from_llava(tiny_llava())
    model.add_modality("audio", beats, {"kind": "qformer", "queries": 5, **sizes})
    cloud = replace(get_modality("point_cloud"), channels=6)
    model.add_modality(cloud, points)
    options = {"audio": {**BEATS_PROCESSOR, "seconds": 1.0}, "point_cloud": {"num_groups": 12, "group_size": 8}}
    processor = MeraProcessor.from_model(model, tiny_tokenizer(), pictures(), options)
    batch = processor(text="<audio> <point_cloud> ?", audio=[raw()["audio"]], point_cloud=[raw()["point_cloud"]])
    assert batch["audio_values"].shape == (1, 1, 1, 128, 98) and beats.token_spec("audio").grid == (1, 6, 8)
    assert [(batch["input_ids"] == processor.token_id(name)).sum() for name in ("audio", "point_cloud")] == [5, 13]
    assert model.generate(**batch, **EXACT).shape == (1, batch["input_ids"].shape[1] + 4)


def test_a_clip_with_fewer_frames_gets_fewer_tokens(
    model: MeraForConditionalGeneration, processor: MeraProcessor
) -> None:
    short, long = raw()["video"][:1], raw()["video"]
    batch = processor(text=["<video> this", "what <video>"], videos=[short, long])
    assert (batch["input_ids"] == processor.token_id("video")).sum(dim=1).tolist() == [4, 12]
    assert batch["video_mask"].sum(dim=1).tolist() == [1, 3]
    together = model.generate(**batch, **EXACT)
    alone = model.generate(**processor(text="<video> this", videos=[short]), **EXACT)
    assert torch.equal(together[0, -4:], alone[0, -4:])


def test_tubelets_are_counted_by_step() -> None:
    layout = {"per_step": 5, "frames_per_step": 2}
    processor = MeraProcessor(pictures(), tiny_tokenizer())
    processor.add_modality("video", layout, num_frames=4)
    batch = processor(text="<video>", videos=[raw()["video"]])
    assert (batch["input_ids"] == processor.token_id("video")).sum() == 10


# ---- prompts ----------------------------------------------------------------------------------------------------


def test_prompts_mix_senses_and_have_any_number_of_items(
    model: MeraForConditionalGeneration, processor: MeraProcessor
) -> None:
    texts = ["<image> and <audio> and <image> ?", "what is this ?", "<depth> . <image>"]
    given: dict[str, Any] = {"images": [[raw(1)["image"], raw(2)["image"]], [], [raw(3)["image"]]],
             "audio": [[raw()["audio"]], [], []], "depth": [raw()["depth"]]}  # fmt: skip
    batch = processor(text=texts, facts={"depth": FACTS}, **given)
    ids = batch["input_ids"]
    counts = {name: (ids == processor.token_id(name)).sum(dim=1).tolist() for name in ("image", "audio", "depth")}
    assert counts == {"image": [32, 0, 16], "audio": [3, 0, 0], "depth": [0, 0, 16]}
    assert len(batch["pixel_values"]) == 3 and len(batch["audio_values"]) == len(batch["depth_values"]) == 1
    assert model.generate(**batch, **EXACT).shape == (3, ids.shape[1] + 4)
    flat = processor(text=texts, facts={"depth": FACTS}, **{**given, "images": [raw(i)["image"] for i in (1, 2, 3)]})
    assert same(batch, flat)


def test_a_padded_prompt_is_its_unpadded_self(processor: MeraProcessor) -> None:
    texts = ["<image> what is this ?", "a ball"]
    sides: list[tuple[Side, slice]] = [("left", slice(-3, None)), ("right", slice(0, 3))]
    for side, place in sides:
        batch = processor(text=texts, images=[raw()["image"]], padding_side=side)
        assert batch["attention_mask"].sum(dim=1).tolist() == [1 + 16 + 4, 3]
        alone = processor(text="a ball")["input_ids"][0]
        assert torch.equal(batch["input_ids"][1, place], alone)
        assert (batch["input_ids"][1][batch["attention_mask"][1] == 0] == 0).all()


def test_a_video_may_be_a_list_of_frames(processor: MeraProcessor) -> None:
    frames = list(raw()["video"][:3])
    as_array = processor(text="<video>", videos=[raw()["video"][:3]])
    assert same(processor(text="<video>", videos=[frames]), as_array)
    assert same(processor(text=["<video>"], videos=[[frames]]), as_array)


def test_files_are_read(processor: MeraProcessor, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.flac", raw()["audio"]["array"], 16_000)
    batch = processor(text="<audio>", audio=[tmp_path / "a.flac"])
    assert batch["audio_values"].shape == (1, 1, 1, 32, 32)


def test_facts_belong_to_the_items_that_are_given(processor: MeraProcessor) -> None:
    depth = raw()["depth"]
    listed = processor(text="<depth> ?", depth=depth, facts={"depth": FACTS})
    assert same(processor(text="<depth> ?", depth=depth, facts={"depth": FACTS[0]}), listed)
    assert not torch.equal(processor(text="<depth> ?", depth=depth)["depth_values"], listed["depth_values"])
    with pytest.raises(ConfigError, match="there are facts of 'depht', and no sources"):
        processor(text="<depth> ?", depth=depth, facts={"depht": FACTS})


def test_without_a_prompt_there_are_features_only(processor: MeraProcessor) -> None:
    assert set(processor(images=[raw()["image"]], return_tensors="pt")) == {"pixel_values"}


def test_the_beginning_is_not_written_twice(processor: MeraProcessor) -> None:
    begun, plain = processor(text="<s> what is this ?"), processor(text="what is this ?")
    assert same(begun, plain) and plain["input_ids"][0, 0] == 1
    assert processor(text="what is this ?", add_special_tokens=False)["input_ids"][0, 0] != 1


@pytest.mark.parametrize("order", [[0, 1, 0], [1, 0, 1]], ids=str)
def test_each_text_of_a_batch_begins_once(processor: MeraProcessor, order: list[int]) -> None:
    texts = [["what is this ?", "<s>what is this ?"][index] for index in order]
    rows = processor(text=texts)["input_ids"].tolist()
    assert rows == [processor(text="what is this ?")["input_ids"][0].tolist()] * len(order)
    assert rows[0].count(processor.tokenizer.bos_token_id) == 1


@pytest.mark.parametrize(
    ("texts", "given", "message"),
    [
        (["<image>", "a <image>"], {"images": [[0], [0, 0]]}, "image of sample 1: 2 items came for 1 placeholders"),
        (["<image>", "ball"], {"images": [[0], [0]]}, "image of sample 1: 1 items came for 0 placeholders"),
        (["<image> <image>", "<image>"], {"images": [0, 0]}, "image of sample 1: 2 items came for 3 placeholders"),
        (["a", "b <image>"], {"images": [0, 0]}, "image of sample 1: 2 items came for 1 placeholders in 2 prompts"),
        (["a", "<audio>"], {}, "audio of sample 1: there is a placeholder <audio> and no item for it"),
    ],
)
def test_the_sample_that_does_not_fit_is_named(
    processor: MeraProcessor, texts: list[str], given: dict[str, Any], message: str
) -> None:
    picture = raw()["image"]

    def filled(items: list[Any]) -> list[Any]:
        return [filled(each) if isinstance(each, list) else picture for each in items]

    items: dict[str, Any] = {key: filled(each) for key, each in given.items()}
    with pytest.raises(FeatureShapeError, match=message):
        processor(text=texts, **items)


def test_a_batch_has_prompts(processor: MeraProcessor) -> None:
    with pytest.raises(ConfigError, match="text: a batch has no prompts"):
        processor(text=[])
    with pytest.raises(ConfigError, match="a batch has no conversations"):
        processor.training_inputs([])


@pytest.mark.parametrize("text", [3, b"a", [None], [["a"]], {"a": 1}])
def test_prompts_are_texts(text: Any, processor: MeraProcessor) -> None:
    unchecked = inspect.unwrap(MeraProcessor.__call__)  # which the type checks of the tests hide behind a wrapper
    with pytest.raises(ConfigError, match=r"^text: .* is neither a text nor a list of texts"):
        unchecked(processor, text=text)


@pytest.mark.parametrize("conversation", [[], [[]]])
def test_a_chat_has_messages(conversation: Any, processor: MeraProcessor) -> None:
    with pytest.raises(ConfigError, match="sample 0: the conversation has no messages"):
        processor.apply_chat_template(conversation, tokenize=True)


def test_half_a_surrogate_pair_is_no_text(processor: MeraProcessor) -> None:
    """Standard input under a C locale holds them, as does JSON that was cut."""
    for call in (partial(processor, text="what \udcff"), partial(processor.training_inputs, [chat("what \udcff ?")])):
        with pytest.raises(ConfigError, match=r"text: the text around '.*what .*udcff.*' is no Unicode"):
            call()


def test_a_sense_that_is_not_there_is_named(processor: MeraProcessor) -> None:
    with pytest.raises(UnknownModalityError, match="processor: unknown modality 'smell'"):
        processor(text="a", smell=[1])


# ---- conversations ----------------------------------------------------------------------------------------------


def chat(*content: Any, answer: str = "a red ball .") -> list[dict[str, Any]]:
    return [{"role": "user", "content": list(content)}, {"role": "assistant", "content": answer}]


def test_parts_of_every_sense_become_placeholders_and_items(
    model: MeraForConditionalGeneration, processor: MeraProcessor, tmp_path: Path
) -> None:
    soundfile.write(tmp_path / "a.wav", raw()["audio"]["array"], 16_000)
    user = [{"type": "image", "image": raw()["image"]}, {"type": "text", "text": " and "},
            {"type": "audio", "path": str(tmp_path / "a.wav")}, {"type": "text", "text": " what is "},
            {"type": "depth", "depth": raw()["depth"], "facts": FACTS[0]}, {"type": "text", "text": " ?"}]  # fmt: skip
    conversation = [{"role": "user", "content": user}]
    text = processor.apply_chat_template(conversation, add_generation_prompt=True)
    assert text == ("<s><|start_header_id|>user<|end_header_id|>\n\n<image> and <audio> what is <depth> ?</s>"
                    "<|start_header_id|>assistant<|end_header_id|>\n\n")  # fmt: skip
    batch = processor.apply_chat_template(conversation, add_generation_prompt=True, tokenize=True, return_dict=True)
    expected = processor(text=text, images=[raw()["image"]], audio=[raw()["audio"]], depth=[raw()["depth"]],
                         facts={"depth": FACTS})  # fmt: skip
    assert batch["input_ids"].tolist() == expected["input_ids"].tolist() and (batch["input_ids"] == 1).sum() == 1
    torch.testing.assert_close(batch["audio_values"], expected["audio_values"], atol=1e-2, rtol=0)  # 16-bit file
    assert model.generate(**batch, **EXACT).shape == (1, batch["input_ids"].shape[1] + 4)
    ids = processor.apply_chat_template([conversation, chat("what ?")], tokenize=True)
    assert ids.shape[0] == 2


def test_an_answer_that_was_begun_may_be_continued(processor: MeraProcessor) -> None:
    text = processor.apply_chat_template(chat("what ?", answer="a red"), continue_final_message=True)
    assert text.endswith("assistant<|end_header_id|>\n\na red")


@pytest.mark.parametrize("key", ["path", "url", "source", "image"])
def test_a_part_names_its_source_as_transformers_does(processor: MeraProcessor, tmp_path: Path, key: str) -> None:
    with pytest.raises(MediaError, match="remote address"):
        chatted = chat({"type": "image", key: "https://example.org/a.png"})[:1]
        processor.apply_chat_template(chatted, tokenize=True)


def words(processor: MeraProcessor, ids: torch.Tensor) -> list[str]:
    return list(processor.tokenizer.convert_ids_to_tokens(ids.tolist()))


def test_labels_are_the_answers_with_their_ends_and_nothing_else(processor: MeraProcessor) -> None:
    image = {"type": "image", "image": raw()["image"]}
    two_turns = [*chat(image, {"type": "text", "text": " what is this ?"}), *chat("and ?", answer="a cup")]
    batch = processor.training_inputs([two_turns, chat("what is this ?")])
    ids, labels, mask = batch["input_ids"], batch["labels"], batch["attention_mask"]
    learned = [words(processor, ids[row][labels[row] != -100]) for row in range(2)]
    assert learned == [["a", "red", "ball", ".", "</s>", "a", "cup", "</s>"], ["a", "red", "ball", ".", "</s>"]]
    assert torch.equal(labels[labels != -100], ids[labels != -100])
    assert (labels[mask == 0] == -100).all() and mask[1].tolist() == sorted(mask[1].tolist(), reverse=True)
    assert len(batch["pixel_values"]) == 1


def test_what_is_trained_on_is_what_is_asked(model: MeraForConditionalGeneration, processor: MeraProcessor) -> None:
    """The ids before the answer are the prompt's of a generation."""
    image = {"type": "image", "image": raw()["image"]}
    conversation = chat(image, {"type": "text", "text": " what is this ?"})
    trained = processor.training_inputs([conversation])
    asked = processor.apply_chat_template(conversation[:1], add_generation_prompt=True, tokenize=True)
    first = int((trained["labels"][0] != -100).nonzero()[0])
    assert trained["input_ids"][0, :first].tolist() == asked[0].tolist()
    assert model(**trained).loss.isfinite()


def test_cached_tokens_are_counted_from_elsewhere(
    model: MeraForConditionalGeneration, processor: MeraProcessor
) -> None:
    conversations = [chat({"type": "image"}, "what ?".join(["", ""]) or {"type": "text", "text": " what ?"})]
    whole = [chat({"type": "image", "image": raw()["image"]}, {"type": "text", "text": " what ?"})]
    expected = processor.training_inputs(whole)
    tokens = model.encode("image", expected["pixel_values"]).tokens
    cached = processor.training_inputs(conversations, counts={"image": [16]})
    assert torch.equal(cached["input_ids"], expected["input_ids"]) and "pixel_values" not in cached
    losses = [model(**cached, image_tokens=tokens).loss, model(**expected).loss]
    assert torch.equal(losses[0], losses[1])
    with pytest.raises(FeatureShapeError, match="image of sample 0: there is a placeholder <image> and no item"):
        processor.training_inputs(conversations)
    with pytest.raises(FeatureShapeError, match="image of sample 0: 1 items more came than there are placeholders"):
        processor.training_inputs(conversations, counts={"image": [16, 16]})


@pytest.mark.parametrize(
    ("counts", "message"),
    [({"image": [0]}, r"counts of image: \[0\] is no list"), ({"smell": [3]}, "counts: unknown modality 'smell'")],
)
def test_counts_that_are_none_are_named(counts: Any, message: str, processor: MeraProcessor) -> None:
    asked = chat({"type": "image"}, {"type": "text", "text": " what ?"})
    for call in (partial(processor, "<image>"), partial(processor.training_inputs, [asked]),
                 partial(processor.expand, ["<image>"])):  # fmt: skip
        with pytest.raises((ConfigError, UnknownModalityError), match=message):
            call(counts=counts)


@pytest.mark.parametrize("side", ["Left", "", None])
def test_texts_are_padded_on_the_left_or_right(side: Any, processor: MeraProcessor) -> None:
    unchecked = inspect.unwrap(MeraProcessor._padded)  # see above
    with pytest.raises(ConfigError, match=f"padding_side: {side!r} is no side. Give 'left' to generate"):
        unchecked(processor, [[1, 2]], side)


def test_a_placeholder_in_a_text_is_no_part(processor: MeraProcessor) -> None:
    with pytest.raises(FeatureShapeError, match="image of sample 0: the prompt has 1 placeholders for 0 parts"):
        processor.apply_chat_template(chat({"type": "text", "text": "say <image>"}))


def test_a_processor_may_have_several_templates(processor: MeraProcessor) -> None:
    short = "{% for message in messages %}{{ message['content'] }}{% endfor %}"
    processor.chat_template = {"short": short}
    assert processor.apply_chat_template(chat("what ?")[:1], "short") == "what ?"
    assert processor.apply_chat_template(chat("what ?")[:1], short) == "what ?"
    with pytest.raises(ConfigError, match=r"none of the chat templates \['short'\] is the default"):
        processor.apply_chat_template(chat("what ?"))


@pytest.mark.parametrize(
    ("template", "reason"),
    [
        ("{% for message in messages %}", "TemplateSyntaxError"),
        ("{{ raise_exception('roles must alternate') }}", "TemplateError: roles must alternate"),
        ("{{ messages.__class__.__mro__ }}", "SecurityError"),
        ("{% for number in range(10000000) %}x{% endfor %}", "OverflowError"),
        ("{{ 1 + messages[0]['role'] }}", "TypeError"),
        ("{{ 1 / 0 }}", "ZeroDivisionError"),
    ],
)
def test_a_template_that_fails_or_may_not_do_what_it_wants_is_told(
    processor: MeraProcessor, template: str, reason: str
) -> None:
    with pytest.raises(ConfigError, match=rf"chat_template: the chat template refuses the conversation \({reason}"):
        processor.apply_chat_template(chat("what ?"), chat_template=template)


def test_a_template_that_leaves_parts_out_is_noticed(processor: MeraProcessor) -> None:
    template = "{% for message in messages %}{{ message['role'] }}{% endfor %}"
    with pytest.raises(FeatureShapeError, match="image of sample 0: the prompt has 0 placeholders for 1 parts"):
        processor.apply_chat_template(chat({"type": "image"}), chat_template=template)


# ---- LLaVA ------------------------------------------------------------------------------------------------------

LLAVA_TEMPLATE = (
    "{% for message in messages %}{{ message['role'] }} {% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<image> {% endif %}{% endfor %}{% for part in message['content'] %}"
    "{% if part['type'] == 'text' %}{{ part['text'] }} {% endif %}{% endfor %}{% endfor %}"
    "{% if add_generation_prompt %}assistant {% endif %}"
)


def llava_processor(**changes: Any) -> LlavaProcessor:
    tokenizer = tiny_tokenizer(extra_special_tokens=["<image>"])
    values = {"patch_size": 8, "vision_feature_select_strategy": "default", "num_additional_image_tokens": 1,
              "chat_template": LLAVA_TEMPLATE, **changes}  # fmt: skip
    return LlavaProcessor(pictures(), tokenizer, **values)


def test_llavas_inputs_are_the_same(tmp_path: Path) -> None:
    old = llava_processor()
    tiny_llava().save_pretrained(tmp_path)
    old.save_pretrained(tmp_path)
    texts, images = ["<image> what is this ?", "a <image> <image>"], [raw(i)["image"] for i in range(3)]
    expected = old(text=texts, images=images, padding=True, padding_side="left", return_tensors="pt")
    for new in (MeraProcessor.from_llava(old), MeraProcessor.from_llava(tmp_path)):
        found = new(text=texts, images=images, padding=True, return_tensors="pt")
        assert torch.equal(found["input_ids"], expected["input_ids"])
        assert torch.equal(found["attention_mask"], expected["attention_mask"])
        torch.testing.assert_close(found["pixel_values"], expected["pixel_values"], atol=1e-6, rtol=0)
        assert new.token_id("image") == 95 and new.chat_template == LLAVA_TEMPLATE


def test_llavas_template_keeps_its_place_for_images_and_takes_further_senses() -> None:
    processor = MeraProcessor.from_llava(llava_processor())
    processor.add_modality("audio", {"per_step": 3, "fixed": True})
    conversation = chat({"type": "text", "text": "what ?"}, {"type": "audio"}, {"type": "image"})[:1]
    text = processor.apply_chat_template(conversation)
    assert text.split() == ["user", "<image>", "what", "?", "<audio>"]
    old = llava_processor().apply_chat_template(chat({"type": "text", "text": "what ?"}, {"type": "image"})[:1])
    assert text.replace("<audio> ", "") == old


def test_answers_that_a_template_leaves_open_end_all_the_same() -> None:
    """A model that learned LLaVA's answers without an end would go on for as long as it may."""
    processor = MeraProcessor.from_llava(llava_processor())
    image = {"type": "image", "image": raw()["image"]}
    batch = processor.training_inputs([[*chat(image, "what is this ?"), *chat("and ?", answer="a cup")]])
    ids, labels = batch["input_ids"][0], batch["labels"][0]
    assert words(processor, ids[labels != -100]) == ["a", "red", "ball", ".", "</s>", "a", "cup", "</s>"]


def test_an_answer_that_ends_with_a_mark_of_its_own_gets_no_second_end() -> None:
    processor = MeraProcessor.from_llava(llava_processor())
    processor.tokenizer.add_tokens(["<turn>"], special_tokens=True)
    processor.chat_template = LLAVA_TEMPLATE.replace("{% endfor %}{% endfor %}", "{% endfor %}<turn> {% endfor %}")
    batch = processor.training_inputs([chat("what is this ?")])
    assert words(processor, batch["input_ids"][0][batch["labels"][0] != -100]) == ["a", "red", "ball", ".", "<turn>"]


def test_an_answer_is_learned_as_it_is_generated_behind_its_prompt() -> None:
    """Llama 2's tokenizer begins every text with a space, which an answer after a prompt has only once."""
    vocabulary = {mark: index for index, mark in enumerate(["<pad>", "<s>", "</s>", "<unk>", *"\u2581:abcdei"])}
    pairs = [("\u2581", "\u2581"), ("\u2581", "a"), ("\u2581", "b")]
    vocabulary |= {"".join(pair): len(vocabulary) + index for index, pair in enumerate(pairs)}
    backend = Tokenizer(models.BPE(vocabulary, pairs, unk_token="<unk>"))
    backend.normalizer = normalizers.Sequence([normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")])
    named = {"pad_token": "<pad>", "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, **named)
    template = "{% for message in messages %}{{ message['role'][0] + ': ' + message['content'] + ' ' }}{% endfor %}"
    template += "{% if add_generation_prompt %}a:{% endif %}"
    processor = MeraProcessor(pictures(), tokenizer, chat_template=template)
    conversation = [{"role": "bob", "content": "b"}, {"role": "assistant", "content": "b e"}]
    batch = processor.training_inputs([conversation])
    whole = processor.tokenizer("b: b a: b e</s>", add_special_tokens=False)["input_ids"]
    assert batch["input_ids"][0].tolist() == whole
    asked = processor.apply_chat_template(conversation[:1], add_generation_prompt=True, tokenize=True)[0]
    learned = batch["labels"][0] != -100
    assert asked.tolist() == batch["input_ids"][0][~learned].tolist()
    assert words(processor, batch["input_ids"][0][learned]) == ["\u2581b", "\u2581", "e", "</s>"]


def test_a_llava_of_other_pictures_is_refused() -> None:
    squashed = llava_processor()
    squashed.image_processor.do_center_crop = False
    with pytest.raises(ConfigError, match="this LLaVA does not prepare pictures as CLIP does"):
        MeraProcessor.from_llava(squashed)
    with pytest.raises(ConfigError, match="the processor does not know the patch size"):
        MeraProcessor.from_llava(llava_processor(patch_size=None))


# ---- senses and files -------------------------------------------------------------------------------------------


def test_a_processor_survives_its_folder_by_class_and_by_auto_class(
    model: MeraForConditionalGeneration, processor: MeraProcessor, thermal: Modality, tmp_path: Path
) -> None:
    processor.add_modality(thermal, {"per_step": 7}, size=16, mean=[20.0])
    model.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    given: dict[str, Any] = {"text": "<thermal> <image> <audio>", "images": [raw()["image"]],
                             "audio": [raw()["audio"]], "thermal": [raw()["depth"]]}  # fmt: skip
    for loaded in (MeraProcessor.from_pretrained(tmp_path), AutoProcessor.from_pretrained(tmp_path)):
        assert type(loaded) is MeraProcessor
        assert loaded.senses == processor.senses and loaded.chat_template == processor.chat_template
        assert {name: loaded.token_id(name) for name in loaded.senses} == {
            name: processor.token_id(name) for name in processor.senses
        }
        assert same(loaded(**given), processor(**given))
        assert loaded(**given)["thermal_values"].shape == (1, 1, 16, 16)


def test_an_unregistered_sense_keeps_its_options_and_names_the_missing_call(
    processor: MeraProcessor, thermal: Modality, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    processor.add_modality(thermal, {"per_step": 7})
    processor.save_pretrained(tmp_path)
    monkeypatch.delitem(registry._SPECS, "thermal")
    monkeypatch.delitem(registry._PROCESSORS, "thermal")
    loaded = MeraProcessor.from_pretrained(tmp_path)
    assert loaded(text="what is this ?")["input_ids"].shape == (1, 5)
    with pytest.raises(UnregisteredModalityError, match=r"polysense\.register_modality"):
        loaded(text="<thermal>", thermal=[raw()["depth"]])


def test_a_placeholder_is_one_token_of_its_own(processor: MeraProcessor) -> None:
    known = len(processor.tokenizer)
    processor.add_modality("speech", {"per_step": 2}, token="<voice>")
    assert len(processor.tokenizer) == known + 1 and processor.token_id("speech") == known
    ids = processor.tokenizer("a<voice>ball", add_special_tokens=False)["input_ids"]
    assert ids[1] == known and len(ids) == 3


def test_a_sense_is_added_once_and_with_options_that_exist(processor: MeraProcessor) -> None:
    before, known = str(processor.senses), len(processor.tokenizer)
    wrong: list[tuple[tuple[Any, ...], dict[str, Any], str]] = [
        (("depth", {"per_step": 1}), {}, "the processor already has the modality 'depth'"),
        (("speech", {"per_step": 1}), {"token": "<image>"}, "the placeholder '<image>' is another sense's"),
        (("speech", {"per_step": 0}), {}, "counts no tokens"),
        (("speech", {"per_step": 1}), {"colour": 3}, "has no options"),
        (("smell", {"per_step": 1}), {}, "'smell' is not registered"),
    ]
    for arguments, options, message in wrong:
        with pytest.raises((ConfigError, UnregisteredModalityError), match=message):
            processor.add_modality(*arguments, **options)
    assert str(processor.senses) == before and len(processor.tokenizer) == known


@pytest.mark.parametrize(
    ("tokens", "message"),
    [(None, "audio.tokens: the sense has no placeholder"), ({"per_step": 3}, "the sense has no placeholder"),
     ({"token": "<audio>"}, "is no token layout"), ({"token": "<audio>", "per_step": 3, "hook": 1}, "is no token")],
)  # fmt: skip
def test_a_damaged_file_is_refused(tokens: Any, message: str) -> None:
    senses = {"audio": {"modality": "audio", **({} if tokens is None else {"tokens": tokens})}}
    with pytest.raises(ConfigError, match=message):
        MeraProcessor(pictures(), tiny_tokenizer(), senses)


def test_a_tokenizer_under_other_ids_is_refused(model: MeraForConditionalGeneration) -> None:
    tokenizer = tiny_tokenizer(extra_special_tokens=["<taken>"])  # is 95, which is the model's <image>
    with pytest.raises(ConfigError, match="image: the tokenizer's <image> is 96, the model's is 95"):
        MeraProcessor.from_model(model, tokenizer, pictures(), OPTIONS)
    assert len(tokenizer) == 96


def test_a_tokenizer_without_padding_pads_with_a_reserved_token() -> None:
    tokenizer = tiny_tokenizer(pad_token=None)
    assert tokenizer.pad_token_id is None
    batch = MeraProcessor(pictures(), tokenizer)(text=["a red ball", "a"])
    assert tokenizer.pad_token == "<|reserved_special_token_0|>"
    assert batch["input_ids"][1].tolist()[:2] == [tokenizer.pad_token_id] * 2
    assert tokenizer.pad_token_id != tokenizer.eos_token_id


def test_model_and_processor_grow_together() -> None:
    """Either may be extended first; the next free id is the tokenizer's."""
    tokenizer = tiny_tokenizer()
    model = MeraForConditionalGeneration.from_llava(tiny_llava())
    processor = MeraProcessor.from_model(model, tokenizer, pictures())
    model.add_modality("video", "image", tokenizer=processor.tokenizer)
    processor.add_modality("video", model.token_layout("video"))
    processor.tokenizer.add_tokens(["<thermal>"])
    model.add_modality(Modality(name="thermal", kind="grid"), "image", tokenizer=processor.tokenizer)
    assert processor.token_id("video") == model.config.senses["video"].token_id == 96
    assert model.config.senses["thermal"].token_id == 97
