from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from huggingface_hub.errors import StrictDataclassFieldValidationError
from transformers import AutoConfig

from polysense import UniAlignConfig
from polysense.errors import ConfigError, UnsafeFileError
from polysense.testing import tiny_clip, tiny_senses


def config(**changes: Any) -> UniAlignConfig:
    senses = {sense.name: sense.to_dict() for sense in tiny_senses()}
    return UniAlignConfig(**{"clip_config": tiny_clip().config.to_dict(), "modalities": senses, **changes})


def test_a_config_survives_its_folder(tmp_path: Path) -> None:
    original = config(routing="global", visible_groups={"depth": ["depth", "audio"]}, image_tokenized=["depth"])
    original.save_pretrained(tmp_path)
    for loaded in (UniAlignConfig.from_pretrained(tmp_path), AutoConfig.from_pretrained(tmp_path)):
        assert isinstance(loaded, UniAlignConfig)

        assert loaded.senses == original.senses
        assert loaded.visible_groups == original.visible_groups
        assert loaded.vision.hidden_size == 32 and loaded.text.hidden_size == 24


def test_defaults_are_the_papers_and_not_shared() -> None:
    plain = UniAlignConfig()
    assert (plain.num_experts, plain.expert_rank, plain.expert_alpha) == (2, 4, 32.0)
    plain.modalities["depth"] = {"name": "depth", "kind": "grid"}
    assert UniAlignConfig().modalities == {}


def test_groups_are_listed_once_in_order_of_addition() -> None:
    senses = {
        name: {"name": name, "kind": "spectrogram", "group": group}
        for name, group in (("audio", "sound"), ("touch", ""), ("speech", "sound"))
    }
    assert config(modalities=senses).groups == ["sound", "touch"]
    assert config(modalities=senses, image_experts=True, unified_text=True).groups == [
        "image",
        "text",
        "sound",
        "touch",
    ]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_experts": 0}, "num_experts is 0"),
        ({"num_experts": 65}, "Use a value from 1 to 64"),
        ({"expert_rank": 10**9}, "expert_rank is 1000000000"),
        ({"top_k": 0}, "top_k is 0"),
        ({"expert_alpha": 0}, "expert_alpha is 0"),
        ({"expert_alpha": -3.0}, "expert_alpha is -3.0"),
        ({"expert_alpha": float("nan")}, "expert_alpha is nan"),
        ({"modalities": {"a": {"name": "b", "kind": "grid"}}}, "modality 'a' has no spec of its own"),
        ({"modalities": {"image": {"name": "image", "kind": "grid"}}}, "modality 'image' has no spec of its own"),
        ({"modalities": {"a": 3}}, "modality 'a' has no spec of its own"),
        ({"modalities": {f"s{i}": {"name": f"s{i}", "kind": "grid"} for i in range(65)}}, "has 65 modalities"),
        ({"image_tokenized": ["smell"]}, r"image_tokenized names \['smell'\]"),
        ({"visible_groups": {"depth": ["smell"]}}, r"visible_groups names \['smell'\]"),
        ({"visible_groups": {"smell": []}}, r"visible_groups names \['smell'\]"),
        ({"expert_init": "svd", "expert_site": "block"}, "expert_init svd needs a matrix to decompose"),
        (
            {
                "expert_init": "svd",
                "num_experts": 8,
                "expert_rank": 3,
                "clip_config": {
                    "vision_config": {"hidden_size": 24, "intermediate_size": 20, "num_attention_heads": 2}
                },
            },
            "8 experts of rank 3 need 24 singular values, the FFN's matrices have 20",
        ),
        ({"clip_config": {"vision_config": {"hidden_size": 12 * 10**6}}}, "vision_config.hidden_size is 12000000"),
        ({"clip_config": {"text_config": {"vocab_size": 0}}}, "text_config.vocab_size is 0"),
        ({"clip_config": {"vision_config": {"patch_size": [4, 4]}}}, "vision_config.patch_size is"),
    ],
)
def test_values_that_no_model_can_have_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        config(**changes)


@pytest.mark.parametrize(
    "changes",
    [
        {"num_experts": "two"},
        {"num_experts": 2.5},
        {"expert_site": "attention"},
        {"routing": 3},
        {"unified_text": "yes"},
        {"modalities": []},
        {"visible_groups": {"depth": 3}},
        {"expert_alpha": None},
        {"clip_config": "clip"},
    ],
    ids=str,
)
def test_mistyped_fields_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(StrictDataclassFieldValidationError, match=f"for field '{next(iter(changes))}'"):
        config(**changes)


@pytest.mark.parametrize(
    "changes", [{"num_labels": 10**9}, {"clip_config": {"num_labels": 10**9}}, {"clip_config": {"auto_map": {}}}]
)
def test_what_transformers_would_obey_is_refused_before_it_does(changes: dict[str, Any]) -> None:
    with pytest.raises(UnsafeFileError):
        config(**changes)
