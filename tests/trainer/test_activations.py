"""Activations that are computed again in place of being kept."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from polysense.errors import ConfigError
from polysense.testing import tiny_llama
from polysense.testing.counting import saved_bytes
from polysense.trainer.activations import recomputed

IDS = torch.arange(3, 67).unsqueeze(0)


def gradients(wanted: bool) -> tuple[dict[str, Tensor], int]:
    """Of a tiny Llama in training, and the bytes that it keeps for its backward pass."""
    model = tiny_llama().train()
    with recomputed(model, wanted):
        model(input_ids=IDS, labels=IDS, use_cache=False).loss.backward()
        found = {name: each.grad for name, each in model.named_parameters() if each.grad is not None}
        kept = saved_bytes(lambda: model(input_ids=IDS, labels=IDS, use_cache=False).loss, model.parameters())
    assert not model.is_activation_checkpointing
    return found, kept


def test_gradients_are_the_same_bits_and_less_is_kept() -> None:
    (plain, bytes_of_all), (again, bytes_of_inputs) = gradients(False), gradients(True)
    assert plain.keys() == again.keys() and all(torch.equal(plain[name], again[name]) for name in plain)
    assert bytes_of_inputs < bytes_of_all / 2


def test_a_module_without_it_is_refused_only_if_it_is_wanted() -> None:
    with recomputed(nn.Linear(2, 2), False):
        pass
    with pytest.raises(ConfigError, match="activation_checkpointing: Linear has no activation checkpointing"):
        recomputed(nn.Linear(2, 2), True).__enter__()
