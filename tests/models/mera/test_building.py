from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import AutoModelForCausalLM, CLIPVisionModel, GemmaConfig, GPT2Config, PhiConfig, ViTConfig, ViTModel

from polysense import UniAlignModel
from polysense.errors import CheckpointError, ConfigError, UnsafeFileError
from polysense.models.base import checked_encoder, load_encoder
from polysense.models.encoders import HFEncoder
from polysense.models.mera import MeraForConditionalGeneration
from polysense.models.mera.building import load_language_model, placeholder_id
from polysense.testing import tiny_clip, tiny_llama, tiny_mera

SIZES: dict[str, Any] = {
    "vocab_size": 96, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 8, "pad_token_id": 0,
}  # fmt: skip


def causal(config: Any) -> Any:
    return AutoModelForCausalLM.from_config(config).eval()


@pytest.mark.parametrize(
    "config",
    [
        GemmaConfig(**SIZES),  # tied
        GPT2Config(vocab_size=96, n_embd=32, n_layer=2, n_head=4, pad_token_id=0),  # tied, other names
    ],
    ids=lambda config: str(config.model_type),
)
def test_any_language_model_with_a_plain_head_keeps_its_logits(config: Any, tmp_path: Path) -> None:
    llm = causal(config)
    mera = MeraForConditionalGeneration.from_parts(llm)
    ids = torch.tensor([[1, 5, 9, 30]])
    assert torch.equal(mera(input_ids=ids).logits, llm(input_ids=ids).logits)
    assert mera.lm_head.weight is mera.get_input_embeddings().weight
    mera.save_pretrained(tmp_path)
    loaded = MeraForConditionalGeneration.from_pretrained(tmp_path)
    assert torch.equal(loaded(input_ids=ids).logits, llm(input_ids=ids).logits)
    assert loaded.lm_head.weight is loaded.get_input_embeddings().weight


def test_a_model_at_hand_is_copied_and_a_folder_is_read(tmp_path: Path) -> None:
    llm = tiny_llama()
    llm.save_pretrained(tmp_path)
    for parts in (load_language_model(llm), load_language_model(tmp_path)):
        assert all(torch.equal(value, llm.model.state_dict()[key]) for key, value in parts.base.state_dict().items())
        assert parts.head.weight is not llm.lm_head.weight


def test_a_head_that_does_more_is_refused() -> None:
    for setting, value in (("final_logit_softcapping", 30.0), ("logits_scaling", 8.0)):
        llm = tiny_llama()
        setattr(llm.config, setting, value)
        with pytest.raises(ConfigError, match=f"the head of a LlamaForCausalLM does more .*{setting}"):
            load_language_model(llm)
    with pytest.raises(ConfigError, match="the head of a PhiForCausalLM is no plain matrix"):
        load_language_model(causal(PhiConfig(**{**SIZES, "num_key_value_heads": 4})))
    with pytest.raises(ConfigError, match="the head of a LlamaModel is no plain matrix"):
        load_language_model(tiny_llama().model)


def test_missing_weights_and_pickles_are_refused(tmp_path: Path) -> None:
    tiny_llama().save_pretrained(tmp_path)
    path = tmp_path / "model.safetensors"
    state = load_file(path)
    del state["model.norm.weight"]
    save_file(state, path, metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match=r"the folder lacks the weights \['model.norm.weight'\]"):
        load_language_model(tmp_path)
    path.write_bytes(b"PK\x03\x04 a pickle in truth")
    with pytest.raises(UnsafeFileError, match="is a pickle"):
        load_language_model(tmp_path)


def test_encoders_of_ours_stay_and_others_are_wrapped(tmp_path: Path, clip_folder: Path) -> None:
    unialign = UniAlignModel.from_clip(tiny_clip())
    unialign.save_pretrained(tmp_path / "unialign")
    vit = ViTModel(ViTConfig(hidden_size=32, num_hidden_layers=1, num_attention_heads=2, image_size=32, patch_size=8))
    wanted = ((unialign, UniAlignModel), (tmp_path / "unialign", UniAlignModel), (clip_folder, HFEncoder),
              (tiny_clip(), HFEncoder), (vit, HFEncoder), (HFEncoder.from_model(vit), HFEncoder))  # fmt: skip
    for source, kind in wanted:
        assert type(load_encoder(source)) is kind
    loaded: Any = load_encoder(clip_folder)
    assert isinstance(loaded.base, CLIPVisionModel)


def test_what_encodes_nothing_is_refused() -> None:
    with pytest.raises(ConfigError, match="encoder image: a Linear is no ModalityEncoder"):
        checked_encoder(nn.Linear(1, 1), "image")
    encoder = UniAlignModel.from_clip(tiny_clip())
    assert checked_encoder(encoder, "image") is encoder


class Words:
    """The two methods of a tokenizer that count ids."""

    def __init__(self, **vocabulary: int) -> None:
        self.vocabulary = {f"<{name}>": index for name, index in vocabulary.items()}

    def get_vocab(self) -> dict[str, int]:
        return self.vocabulary

    def __len__(self) -> int:
        return 90


def test_a_placeholder_takes_the_next_free_id() -> None:
    senses = tiny_mera("video").config.senses.values()  # 95 and 96
    assert placeholder_id("<audio>", [], 96) == 96
    assert placeholder_id("<audio>", senses, 96) == 97
    assert placeholder_id("<audio>", senses, 96, Words(audio=17)) == 17
    assert placeholder_id("<audio>", [], 96, Words(image=17)) == 90
    assert placeholder_id("<audio>", senses, 96, Words(image=17)) == 97
