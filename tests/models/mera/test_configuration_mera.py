from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from huggingface_hub.errors import StrictDataclassFieldValidationError
from transformers import AutoConfig, LlamaConfig

from polysense import UniAlignConfig
from polysense.errors import ConfigError, UnsafeFileError
from polysense.models.encoders import HFEncoderConfig
from polysense.models.mera import MeraConfig
from polysense.models.mera.configuration_mera import MeraSense
from polysense.testing import tiny_clip, tiny_llama, tiny_senses

SENSES = {sense.name: sense for sense in tiny_senses()}


def sense(name: str, /, first_id: int, **changes: Any) -> dict[str, Any]:
    values = {"spec": SENSES[name].to_dict(), "encoder": "shared", "connector": {"kind": "mlp"}, "token": f"<{name}>",
              "token_id": first_id}  # fmt: skip
    return {**values, **changes}


def config(**changes: Any) -> MeraConfig:
    unialign = UniAlignConfig(clip_config=tiny_clip().config, modalities={n: s.to_dict() for n, s in SENSES.items()})
    values = {
        "text_config": tiny_llama().config.to_dict(),
        "encoder_configs": {"shared": unialign.to_dict(), "picture": {"model_type": "hf_encoder"}},
        "modalities": {"video": sense("video", 96, pool=2, layer=-2), "audio": sense("audio", 97)},
    }
    return MeraConfig(**{**values, **changes})


def test_a_config_survives_its_folder(tmp_path: Path) -> None:
    original = config()
    original.save_pretrained(tmp_path)
    for loaded in (MeraConfig.from_pretrained(tmp_path), AutoConfig.from_pretrained(tmp_path)):
        assert isinstance(loaded, MeraConfig) and isinstance(loaded.text_config, LlamaConfig)
        assert isinstance(loaded.encoder_configs["shared"], UniAlignConfig)
        assert isinstance(loaded.encoder_configs["picture"], HFEncoderConfig)
        assert loaded.encoder_configs["shared"].senses == original.encoder_configs["shared"].senses
        assert loaded.senses == original.senses
        assert loaded.to_diff_dict() == original.to_diff_dict()


def test_defaults_are_a_llama_without_senses_and_not_shared() -> None:
    plain = MeraConfig()
    assert isinstance(plain.text_config, LlamaConfig) and plain.senses == {}
    plain.modalities["x"] = {}
    assert MeraConfig().modalities == {}
    assert MeraConfig().get_text_config().vocab_size == 32000


def test_a_sense_is_read_with_its_types() -> None:
    video = config().senses["video"]
    assert isinstance(video, MeraSense) and video.modality == SENSES["video"]
    assert (video.pool, video.layer, video.token) == (2, -2, "<video>")


def test_tied_weights_are_the_language_models_setting() -> None:
    assert config(text_config={**tiny_llama().config.to_dict(), "tie_word_embeddings": True}).tie_word_embeddings


BAD_SENSES: list[tuple[dict[str, Any], str]] = [
    ({"encoder": "nowhere"}, "modalities.video: there is no encoder 'nowhere'"),
    ({"encoder": 3}, "encoder of a sense is 3"),
    ({"connector": {}}, "has no kind"),
    ({"connector": "mlp"}, "connector of a sense is 'mlp'"),
    ({"layer": 10**6}, "layer of a sense is 1000000"),
    ({"pool": 0}, "pool of a sense is 0"),
    ({"pool": 2.0}, "pool of a sense is 2.0"),
    ({"token_id": -1}, "token_id of a sense is -1"),
    ({"token_id": 10**9}, "token_id of a sense is 1000000000"),
    ({"token_id": True}, "token_id of a sense is True"),
    ({"token_id": 0}, "the placeholder's id 0 is the padding's"),
    ({"token": " "}, "token of a sense is ' '"),
    ({"token": "x" * 99}, "token of a sense is"),
    ({"token": "<audio>"}, "the placeholder '<audio>' .* is another sense's"),
    ({"token_id": 97}, r"the placeholder .* is another sense's"),
    ({"spec": {"name": "other", "kind": "frames"}}, "modalities.video: the sense has no spec of its own"),
    ({"spec": {"name": "video", "kind": "frames", "imports": ["evil"]}}, "unknown key 'imports'"),
    ({"hook": "evil"}, "modalities.video: unknown key 'hook'"),
]


@pytest.mark.parametrize(("changes", "message"), BAD_SENSES, ids=[str(changes)[:40] for changes, _ in BAD_SENSES])
def test_senses_that_no_model_can_have_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        config(modalities={"video": sense("video", 96, **changes), "audio": sense("audio", 97)})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"modalities": {"video": 3}}, "modalities.video: the sense is no mapping"),
        ({"modalities": {"video": {"token": "<v>"}}}, r"lacks \['connector', 'encoder', 'spec', 'token_id'\]"),
        ({"modalities": {"text": sense("video", 96)}}, "the sense has no spec of its own"),
        ({"modalities": {f"s{i}": {} for i in range(65)}}, "the config has 65 modalities"),
        ({"encoder_configs": {"shared": 3}}, "encoder_configs.shared: the encoder's config is no mapping"),
        ({"encoder_configs": {"shared": {"model_type": "evil"}}}, "there is no model type 'evil'"),
        ({"encoder_configs": {"../x": {"model_type": "hf_encoder"}}}, "'../x' .* cannot name a modality"),
        ({"encoder_configs": {"train": {"model_type": "hf_encoder"}}}, "the name 'train' .* is taken"),
        ({"encoder_configs": {f"e{i}": {} for i in range(65)}}, "the config has 65 encoder_configs"),
        ({"encoder_configs": {"shared": {"model_type": "hf_encoder", "prefix_tokens": -1}}}, "fit no encoder"),
        ({"text_config": {"hidden_size": 10**9}}, "text_config: hidden_size is 1000000000"),
        ({"text_config": {"num_hidden_layers": 10**7}}, "text_config: num_hidden_layers is 10000000"),
        ({"text_config": {"model_type": "evil"}}, "text_config: there is no model type 'evil'"),
    ],
)
def test_values_that_no_model_can_have_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        config(**changes)


@pytest.mark.parametrize("changes", [{"modalities": []}, {"encoder_configs": "x"}, {"text_config": [1]}], ids=str)
def test_mistyped_fields_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(StrictDataclassFieldValidationError):
        config(**changes)


@pytest.mark.parametrize(
    "changes",
    [
        {"num_labels": 10**9},
        {"text_config": {"auto_map": {"AutoModel": "evil.Model"}}},
        {"encoder_configs": {"shared": {"model_type": "hf_encoder", "base_config": {"trust_remote_code": True}}}},
        {"encoder_configs": {"shared": {"model_type": "hf_encoder", "_attn_implementation": "evil/kernels"}}},
        {"modalities": {"video": {"auto_map": {}}}},
    ],
    ids=str,
)
def test_what_transformers_would_obey_is_refused_before_it_does(changes: dict[str, Any]) -> None:
    with pytest.raises(UnsafeFileError):
        config(**changes)
