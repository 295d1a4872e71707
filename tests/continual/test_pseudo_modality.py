from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from polysense.continual.pseudo_modality import NEW_CODE_WEIGHT, PseudoModality
from polysense.errors import ConfigError, UnknownModalityError
from tests.models.comet.tiny import tiny_comet, tiny_sequences

MASK = torch.ones(3, 4, dtype=torch.bool)


def drifted(replay: PseudoModality, model: Any) -> tuple[Any, Any]:
    """Pseudo-modal sequences before the mediator's parameters change, and after."""
    text, found = tiny_sequences("text")["text"], []
    for _ in range(2):
        found.append(replay(model, text, model.encode("text", text).continuous, MASK))
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.mul_(-2.0)
    return found[0], found[1]


def model_with_codes() -> Any:
    model = tiny_comet("text", "video", codebook_sizes=[12])
    model.start_codebook(model.encode("text", tiny_sequences("text", batch=9)["text"]).continuous.flatten(0, 1))
    return model


def test_old_codes_count_fully_and_new_ones_almost_nothing() -> None:
    assert pytest.approx(0.00247875) == NEW_CODE_WEIGHT == math.exp(-6)
    model, text = model_with_codes(), tiny_sequences("text")["text"]
    replay = PseudoModality(model, "text")
    z = model.encode("text", text).continuous
    model.grow_codebook(1)
    model.codebook.put(torch.tensor([12]), z[:1, 2])
    pseudo = replay(model, text, z, MASK)
    assert pseudo.weights[0, 2].item() == pytest.approx(math.exp(-6)) and torch.equal(pseudo.vectors[0, 2], z[0, 2])
    index = replay.codes.match(model.codebook, z)[0]
    assert torch.equal(pseudo.weights, torch.where(index < 12, 1.0, NEW_CODE_WEIGHT))


def test_with_new_codes_at_infinity_all_weights_are_one() -> None:
    model, text = model_with_codes(), tiny_sequences("text")["text"]
    replay = PseudoModality(model, "text")
    model.grow_codebook(2)
    model.codebook.put(slice(12, 14), torch.full((2, 8), 1e12))
    assert (replay(model, text, model.encode("text", text).continuous, MASK).weights == 1).all()


def test_a_live_teacher_drifts_with_the_mediator_and_a_frozen_one_does_not() -> None:
    first, second = drifted(PseudoModality(model := model_with_codes(), "text", teacher="live"), model)
    assert not torch.equal(first.vectors, second.vectors)
    first, second = drifted(PseudoModality(model := model_with_codes(), "text", teacher="frozen"), model)
    assert torch.equal(first.vectors, second.vectors)


def test_no_gradient_flows_into_the_pseudo_modality() -> None:
    model, text = model_with_codes(), tiny_sequences("text")["text"]
    z = model.encode("text", text).continuous.requires_grad_()
    pseudo = PseudoModality(model, "text")(model, text, z, MASK)
    assert not pseudo.vectors.requires_grad and not pseudo.weights.requires_grad


def test_the_frozen_codes_are_a_buffer_and_only_the_predictor_trains() -> None:
    replay = PseudoModality(model_with_codes(), "text", teacher="frozen")
    assert "codes.embedding" in dict(replay.named_buffers())
    trained = {name.split(".")[0] for name, each in replay.named_parameters() if each.requires_grad}
    assert trained == {"context"}


def test_what_cannot_teach_is_refused() -> None:
    with pytest.raises(UnknownModalityError, match="unknown modality 'smell'"):
        PseudoModality(model_with_codes(), "smell")
    with pytest.raises(ConfigError, match=r"new codes of weight 2\.0"):
        PseudoModality(model_with_codes(), "text", new_weight=2.0)
