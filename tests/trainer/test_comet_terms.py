"""The terms of COMET's objective, and one of a user's own."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from polysense.continual import apply_freezing
from polysense.errors import ConfigError
from polysense.losses import code_distribution, commitment, cross_modal_code, gate_balance, info_nce, step_error
from polysense.nn.alignment import same_step
from polysense.trainer.comet_settings import TERMS, CometSettings
from polysense.trainer.comet_terms import CODE_TERMS, CodedBatch
from tests.trainer.comet_pairs import PAIR, changed, objective, pairs, second_stage, state


def test_the_terms_are_those_of_the_losses_by_hand() -> None:
    made, batch = objective(CometSettings(sequence=1.0)), pairs().build(0)[0]
    made.module.eval()
    terms = made.losses("audio", batch)
    features, masks = made.inputs(batch)
    out = made.module.model(features, masks)
    assert terms.keys() == {*TERMS, "perplexity", "same_code"} - {"replay"}
    codes = made.module.model.codebook.embedding
    likely = {name: code_distribution(z, codes, out.masks[name]) for name, z in out.continuous.items()}
    means = {
        name: torch.stack([row[mask].mean(dim=0) for row, mask in zip(z, out.masks[name], strict=True)])
        for name, z in out.continuous.items()
    }
    first, second = (each / each.norm(dim=1, keepdim=True) for each in means.values())
    expected = {
        "reconstruction": sum(step_error(out.reconstructions[n], out.targets[n], out.masks[n]) for n in PAIR),
        "commitment": commitment(out.continuous, out.codebook.codes, out.masks, align=same_step),
        "code": cross_modal_code(likely),
        "gate": sum(gate_balance(out.gates[name][out.masks[name]]) for name in PAIR) / 2,
        "sequence": info_nce(first, second, 1 / 0.07),
        "perplexity": out.codebook.perplexity,
    }
    for name, value in expected.items():
        assert torch.allclose(terms[name], torch.as_tensor(value), atol=1e-6), name
    total = sum(terms[name] * made.weights[name] for name in terms)
    torch.testing.assert_close(made.total("audio", batch), total)


@pytest.mark.parametrize("term", ["reconstruction", "commitment", "contrast", "code", "information", "gate"])
def test_terms_of_weight_zero_are_left_out(term: str) -> None:
    none: dict[str, Any] = {term: 0.0}
    made = objective(CometSettings(**none))
    assert term not in made.losses("audio", pairs().build(0)[0])


def test_every_term_reaches_the_encoders() -> None:
    for term in set(TERMS) - {"replay"}:
        only: dict[str, Any] = {**dict.fromkeys(TERMS, 0.0), term: 1.0}
        made = objective(CometSettings(**only))
        made.losses("audio", pairs().build(0)[0])[term].backward()
        touched = {n for n, p in made.module.model.named_parameters() if p.grad is not None and p.grad.any()}
        place = "adapter.gate" if term == "gate" else "semantic.text"
        assert any(name.startswith(place) for name in touched), term
        assert not any(name.startswith("approximations") for name in touched), term


@pytest.mark.parametrize("senses", [PAIR, ("video", "text")])
def test_mixed_precision_trains_by_nearly_the_same_terms(senses: tuple[str, ...]) -> None:
    def scored(mixed: bool) -> dict[str, Tensor]:
        made = objective() if senses == PAIR else second_stage()
        with torch.autocast("cpu", torch.bfloat16, enabled=mixed):
            terms = made.losses(senses[0], pairs(senses=senses).build(0)[0])
        torch.stack([value.float() * made.weights[name] for name, value in terms.items()]).sum().backward()
        made.after_step(True)
        assert made.module.model.codebook.embedding.isfinite().all()
        return {name: terms[name].detach().float() for name in ("reconstruction", "commitment", "contrast", "code")}

    torch.testing.assert_close(scored(True), scored(False), rtol=0.05, atol=0.05)


def test_the_approximation_of_a_frozen_sense_stands_still_with_the_rest_of_it() -> None:
    made = objective()
    apply_freezing(made.module.model, made.module.model.freezing(["audio"]))
    before = state(made)
    made.total("audio", pairs().build(0)[0]).backward()
    moved = {name for name in changed(before, state(made)) if "approximations" in name}
    assert moved and all(".audio." in name for name in moved)


def test_the_replay_has_its_term_and_teaches_the_new_sense() -> None:
    only: dict[str, Any] = {**dict.fromkeys(TERMS, 0.0), "replay": 1.0}
    made = second_stage(**only)
    terms = made.losses("video", pairs(senses=("video", "text")).build(0)[0])
    assert terms.keys() == {"replay", "perplexity", "same_code"}
    terms["replay"].backward()
    touched = {n for n, p in made.module.named_parameters() if p.grad is not None and p.grad.any()}
    for part in ("model.semantic.video", "model.semantic.text", "model.contexts.video", "replay.context"):
        assert any(name.startswith(part) for name in touched), part


def test_a_term_of_the_users_own_is_a_function_and_a_registration() -> None:
    @CODE_TERMS.register("length")
    def length(coded: CodedBatch) -> Tensor:
        return torch.stack([z.square().mean() for z in coded.out.continuous.values()]).sum()

    @CODE_TERMS.register("nothing here")
    def nothing(coded: CodedBatch) -> None:
        return None

    made, batch = objective(CometSettings(terms={"length": 0.5, "nothing here": 1.0})), pairs().build(0)[0]
    made.module.eval()
    terms = made.losses("audio", batch)
    out = made.module.model(*made.inputs(batch))
    assert "nothing here" not in terms and made.weights["length"] == 0.5
    torch.testing.assert_close(terms["length"], sum(out.continuous[name].square().mean() for name in PAIR))
    usual = objective(CometSettings())
    usual.module.eval()
    torch.testing.assert_close(made.total("audio", batch) - usual.total("audio", batch), terms["length"] / 2)
    for name in ("perplexity", "ewc"):
        with pytest.raises(ConfigError, match=f"'{name}' is computed beside the terms already"):
            CODE_TERMS.register(name)(length)
    with pytest.raises(ConfigError, match=r"terms: there is no term 'lenght'.*length"):
        objective(CometSettings(terms={"lenght": 1.0}))
