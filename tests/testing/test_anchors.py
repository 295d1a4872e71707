from __future__ import annotations

from pathlib import Path

import torch
from transformers import AutoTokenizer, CLIPImageProcessorPil, CLIPModel

from polysense.models.unialign import UniAlignProcessor
from polysense.testing import tiny_anchor


def test_an_anchor_is_a_small_clip_whose_parts_fit_each_other(tmp_path: Path) -> None:
    assert tiny_anchor(tmp_path, size=16, num_hidden_layers=1) == tmp_path
    model, tokenizer = CLIPModel.from_pretrained(tmp_path), AutoTokenizer.from_pretrained(tmp_path)
    assert sum(parameter.numel() for parameter in model.parameters()) < 100_000
    assert model.config.text_config.vocab_size == len(tokenizer)
    assert model.config.text_config.eos_token_id == tokenizer("a cup")["input_ids"][-1] == tokenizer.eos_token_id
    assert model.config.vision_config.image_size == CLIPImageProcessorPil.from_pretrained(tmp_path).crop_size["height"]
    assert model.config.vision_config.num_hidden_layers == 1 and UniAlignProcessor.from_clip(tmp_path).size == 16


def test_an_anchor_is_a_function_of_its_seed_and_draws_nothing_from_the_caller(tmp_path: Path) -> None:
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    first, second, other = (
        (tiny_anchor(tmp_path / str(number), seed=seed) / "model.safetensors").read_bytes()
        for number, seed in enumerate((0, 0, 1))
    )
    assert first == second != other
    assert torch.equal(torch.rand(1), expected)
