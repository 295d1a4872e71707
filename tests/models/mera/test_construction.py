"""Building a MERA model and giving it senses: older weights and outputs stay the same to the last bit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import BertConfig, BertModel

from polysense import Modality, UniAlignModel
from polysense.errors import CheckpointError, ConfigError, UnregisteredModalityError
from polysense.models.base import weights_digest
from polysense.models.encoders import HFEncoder
from polysense.models.mera import MeraForConditionalGeneration
from polysense.testing import tiny_clip, tiny_llama, tiny_llava, tiny_mera, tiny_senses
from tests.models.mera.prompts import features, padded, prompt

SENSES = {sense.name: sense for sense in tiny_senses()}
QFORMER = {"kind": "qformer", "queries": 3, "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1,
           "num_attention_heads": 2}  # fmt: skip


def unialign() -> UniAlignModel:
    return UniAlignModel.from_clip(tiny_clip(), tiny_senses())


def copies(model: Any) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


def snapshot(model: Any) -> str:
    return json.dumps([model.config.to_dict(), sorted(model.state_dict())], sort_keys=True)


@torch.no_grad()
def answers(model: Any) -> list[Tensor]:
    """Logits and continuations of two prompts with an image and one without."""
    given = {**padded([prompt(model, 1, "image", 5), prompt(model, 1, 7, "image", 6), [1, 9]]), **features(image=2)}
    return [model(**given).logits, model.generate(**given, max_new_tokens=4, min_new_tokens=4)]


@pytest.mark.parametrize("name", SENSES)
@pytest.mark.parametrize("connector", ["mlp", QFORMER], ids=["mlp", "qformer"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_adding_a_sense_changes_no_older_key_and_no_older_output(
    name: str, connector: Any, dtype: torch.dtype
) -> None:
    model = MeraForConditionalGeneration.from_llava(tiny_llava().to(dtype))
    state, before = copies(model), answers(model)
    model.add_modality(name, unialign(), connector)
    after = model.state_dict()
    assert all(torch.equal(after[key], value) for key, value in state.items())
    assert all(torch.equal(one, other) for one, other in zip(answers(model), before, strict=True))
    new = set(after) - set(state)
    assert new and all(key.startswith((f"model.connectors.{name}.", f"model.encoders.{name}.")) for key in new)
    assert model.modalities == ("image", name)


def test_six_senses_cost_the_language_model_nothing() -> None:
    model = MeraForConditionalGeneration.from_llava(tiny_llava())
    before = model.parameter_table()["language model"]
    for name in SENSES:
        model.add_modality(name, "depth" if name != "depth" else unialign())
    assert len(model.modalities) == 6
    assert model.parameter_table()["language model"] == before
    assert model.get_input_embeddings().weight.shape == (96, 32)
    assert sorted(sense.token_id for sense in model.config.senses.values()) == [95, 96, 97, 98, 99, 100]


def test_one_encoder_serves_many_senses_and_is_stored_once() -> None:
    model = tiny_mera("audio", "depth", "point_cloud")
    assert set(model.model.encoders) == {"image", "audio"}
    assert [model.config.senses[name].encoder for name in ("audio", "depth", "point_cloud")] == ["audio"] * 3
    shared = unialign()
    built = MeraForConditionalGeneration.from_parts(
        tiny_llama(), {"audio": shared, "depth": shared, "image": tiny_clip()}
    )
    assert set(built.model.encoders) == {"audio", "image"}


def test_parts_come_together() -> None:
    llm, tower = tiny_llama(), tiny_clip().vision_model
    model = MeraForConditionalGeneration.from_parts(
        llm, {"image": tower, "video": tower}, {"video": QFORMER}, layers={"image": -2}, pools={"video": 2}, seed=3
    )
    assert all(torch.equal(value, model.state_dict()[f"model.language_model.{key}"])
               for key, value in llm.model.state_dict().items())  # fmt: skip
    assert torch.equal(model.lm_head.weight, llm.lm_head.weight)
    image, video = model.config.senses["image"], model.config.senses["video"]
    assert (image.layer, image.pool, image.connector, image.encoder) == (-2, 1, {"kind": "mlp"}, "image")
    assert (video.layer, video.pool, video.connector["kind"], video.encoder) == (-1, 2, "qformer", "image")
    assert not model.training and not any(p.requires_grad for p in model.model.encoders.parameters())


def test_a_folder_may_be_an_encoder(clip_folder: Path) -> None:
    model = MeraForConditionalGeneration.from_parts(tiny_llama(), {"image": clip_folder})
    assert isinstance(model.model.encoders["image"], HFEncoder)
    parts = {"image": clip_folder, "video": str(clip_folder)}
    assert set(MeraForConditionalGeneration.from_parts(tiny_llama(), parts).model.encoders) == {"image"}
    model.add_modality("video", str(clip_folder))
    assert set(model.model.encoders) == {"image", "video"}


def test_starts_depend_on_seed_and_name_alone() -> None:
    def weights(*names: str, seed: int = 0) -> dict[str, Tensor]:
        model = MeraForConditionalGeneration.from_llava(tiny_llava())
        for name in names:
            model.add_modality(name, names[0] if name != names[0] else unialign(), seed=seed)
        return dict(model.model.connectors["audio"].state_dict())

    first, later, other = weights("audio"), weights("depth", "video", "audio"), weights("audio", seed=1)
    assert all(torch.equal(later[key], value) for key, value in first.items())
    assert not torch.equal(other["linear_1.weight"], first["linear_1.weight"])
    state = tiny_mera("depth", "point_cloud").model.connectors.state_dict()
    assert not torch.equal(state["depth.linear_1.weight"], state["point_cloud.linear_1.weight"])


def test_adding_draws_nothing_from_the_caller() -> None:
    model, encoder = MeraForConditionalGeneration.from_llava(tiny_llava()), unialign()
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    model.add_modality("audio", encoder)
    assert torch.equal(torch.rand(1), expected)


@pytest.mark.parametrize("training", [False, True])
def test_a_new_sense_takes_the_models_mode_and_its_encoder_stays_frozen(training: bool) -> None:
    model = tiny_mera().train(training)
    model.add_modality("audio", unialign().train(), QFORMER)
    assert {module.training for module in model.model.connectors["audio"].modules()} == {training}
    assert not any(module.training for module in model.model.encoders.modules())
    assert not any(parameter.requires_grad for parameter in model.model.encoders.parameters())
    assert all(parameter.requires_grad for parameter in model.model.connectors.parameters())


def test_a_loaded_model_takes_a_further_sense_like_the_saved_one(tmp_path: Path) -> None:
    model = tiny_mera("video")
    model.save_pretrained(tmp_path)
    loaded = MeraForConditionalGeneration.from_pretrained(tmp_path)
    for each in (model, loaded):
        each.add_modality("audio", unialign(), QFORMER, seed=5)
    assert loaded.config.modalities == model.config.modalities
    assert loaded.state_dict().keys() == model.state_dict().keys()
    assert all(torch.equal(loaded.state_dict()[name], value) for name, value in model.state_dict().items())


def test_a_spec_is_the_encoders_own_where_it_has_one() -> None:
    model = MeraForConditionalGeneration.from_llava(tiny_llava())
    model.add_modality("point_cloud", unialign())
    assert (
        model.config.senses["point_cloud"].modality == SENSES["point_cloud"]
    )  # 6 channels, unlike the registered one
    model.add_modality(Modality(name="thermal", kind="grid", channels=3), "image")
    assert model.config.senses["thermal"].modality.channels == 3


def test_a_q_former_may_start_from_bert(tmp_path: Path) -> None:
    bert = BertModel(BertConfig(vocab_size=40, max_position_embeddings=8, hidden_size=16, intermediate_size=32,
                                num_hidden_layers=2, num_attention_heads=2))  # fmt: skip
    bert.save_pretrained(tmp_path)
    model = tiny_mera("audio")
    model.start_from_bert("audio", tmp_path)
    own = model.model.connectors["audio"].state_dict()
    wanted = bert.state_dict()["encoder.layer.1.intermediate.dense.weight"]
    assert torch.equal(own["qformer.encoder.layer.1.intermediate_query.dense.weight"], wanted)
    with pytest.raises(ConfigError, match="image: only a Q-Former can start from BERT"):
        model.start_from_bert("image", tmp_path)


@pytest.mark.parametrize("other", [{"num_attention_heads": 4}, {"hidden_act": "relu"}, {"layer_norm_eps": 1e-5}])
def test_a_bert_of_the_same_shapes_that_computes_something_else_is_refused(
    other: dict[str, Any], tmp_path: Path
) -> None:
    sizes: dict[str, Any] = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2,
                             "num_attention_heads": 2, **other}  # fmt: skip
    BertModel(BertConfig(vocab_size=40, max_position_embeddings=8, **sizes)).save_pretrained(tmp_path)
    model = tiny_mera("audio")
    before = weights_digest(model.state_dict())
    with pytest.raises(CheckpointError, match=rf"the BERT has {next(iter(other))} .* and the Q-Former"):
        model.start_from_bert("audio", tmp_path)
    assert weights_digest(model.state_dict()) == before


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"modality": "image", "encoder": "image"}, "the model already has the modality 'image'"),
    ({"modality": "text", "encoder": "image"}, "the model already has the modality 'text'"),
    ({"modality": "video", "encoder": "image", "connector": "glue"}, "there is no connector kind 'glue'"),
    ({"modality": "video", "encoder": "image", "connector": {"queries": 3}}, "has no kind"),
    ({"modality": "video", "encoder": "image", "connector": {"kind": "mlp", "depth": 3}}, "do not fit kind 'mlp'"),
    ({"modality": "video", "encoder": "image", "layer": 9}, "video: there is no layer 9. Use -1, or 0 to 3"),
    ({"modality": "video", "encoder": "image", "pool": 0}, "pool of a sense is 0"),
    ({"modality": "video", "encoder": "image", "token_id": 95}, "the placeholder '<video>' .95. is another sense's"),
    ({"modality": "video", "encoder": "image", "token_id": 0}, "the placeholder's id 0 is the padding's"),
    ({"modality": "point_cloud", "encoder": "audio", "pool": 2}, "tokens of a 1 x 8 grid cannot be pooled"),
    ({"modality": "audio_2", "encoder": "audio"}, "'audio_2' is not registered"),
]


@pytest.mark.parametrize(("arguments", "message"), REFUSED, ids=[message[:30] for _, message in REFUSED])
def test_what_does_not_fit_changes_nothing(arguments: dict[str, Any], message: str) -> None:
    model = tiny_mera("audio")
    before = snapshot(model)
    with pytest.raises((ConfigError, UnregisteredModalityError), match=message):
        model.add_modality(**arguments)
    assert snapshot(model) == before


def test_a_sense_that_the_encoder_does_not_know_is_refused() -> None:
    model = MeraForConditionalGeneration.from_llava(tiny_llava())
    before = snapshot(model)
    with pytest.raises(KeyError, match="unknown modality 'audio'"):
        model.add_modality("audio", UniAlignModel.from_clip(tiny_clip(), tiny_senses()[:1]))
    assert snapshot(model) == before


def test_parts_name_senses_that_have_an_encoder() -> None:
    with pytest.raises(ConfigError, match=r"the senses \['audio'\] have no encoder"):
        MeraForConditionalGeneration.from_parts(tiny_llama(), {"image": tiny_clip()}, {"audio": "mlp"})


class Words:
    """As much of a tokenizer as the construction asks for."""

    def __init__(self, pad: int | None, **vocabulary: int) -> None:
        self.pad_token_id, self.eos_token_id, self.unk_token_id = pad, 2, None
        self.vocabulary = vocabulary

    def get_vocab(self) -> dict[str, int]:
        return self.vocabulary

    def __len__(self) -> int:
        return 90


def test_a_language_model_without_padding_takes_the_tokenizers_or_a_reserved_token() -> None:
    reserved = {"<|reserved_special_token_0|>": 88}
    for words, pad in ((Words(7), 7), (Words(None, **reserved), 88)):
        model = MeraForConditionalGeneration.from_parts(
            tiny_llama(pad_token_id=None), {"image": tiny_clip()}, tokenizer=words
        )
        assert model.config.llm.pad_token_id == model.generation_config.pad_token_id == pad
        assert model.config.senses["image"].token_id == 90
    with pytest.raises(ConfigError, match="neither a padding token nor a reserved one"):
        MeraForConditionalGeneration.from_parts(tiny_llama(pad_token_id=None), tokenizer=Words(None))
    with pytest.raises(ConfigError, match="the language model has no row for the padding token 120"):
        MeraForConditionalGeneration.from_parts(tiny_llama(pad_token_id=None), tokenizer=Words(120))


def test_an_encoder_in_half_precision_costs_the_language_model_nothing_when_it_is_saved(tmp_path: Path) -> None:
    model = MeraForConditionalGeneration.from_parts(tiny_llama(), {"depth": unialign().to(torch.bfloat16)})
    model.save_pretrained(tmp_path)
    loaded = MeraForConditionalGeneration.from_pretrained(tmp_path).state_dict()
    assert all(torch.equal(loaded[key], value.to(loaded[key].dtype)) for key, value in model.state_dict().items())
    assert loaded["lm_head.weight"].dtype == torch.float32


def test_a_model_in_half_precision_stays_so_beside_its_full_masters(tmp_path: Path) -> None:
    llm = tiny_llama().to(torch.bfloat16)
    model = MeraForConditionalGeneration.from_parts(llm, {"depth": unialign().to(torch.bfloat16)})
    model.save_pretrained(tmp_path)
    loaded = MeraForConditionalGeneration.from_pretrained(tmp_path)
    assert loaded.lm_head.weight.dtype == loaded.dtype == torch.bfloat16
    assert {each.dtype for each in loaded.model.connectors.parameters()} == {torch.float32}
