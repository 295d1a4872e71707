"""COMET's objective: its terms, what moves when, and that a run resumes to the bit."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from polysense.continual import OnlineEwc, apply_freezing
from polysense.continual.codebook_stage import ewc_pattern
from polysense.errors import ConfigError, FeatureShapeError
from polysense.losses import code_distribution, commitment, cross_modal_code, gate_balance, info_nce, step_error
from polysense.nn.alignment import same_step
from polysense.trainer import Hooks, LoopConfig, LoopState, StatefulObjective, train
from polysense.trainer.checkpoint import trainable_state
from polysense.trainer.comet import TERMS, CometObjective, CometSettings, consolidate
from polysense.trainer.comet_methods import comet_method
from polysense.trainer.penalty import PenalisedObjective
from tests.trainer.comet_pairs import PAIR, objective, pairs, second_stage

NOTHING: dict[str, Any] = dict.fromkeys(TERMS, 0.0)


def state(made: CometObjective) -> dict[str, Tensor]:
    return {name: each.clone() for name, each in made.module.state_dict().items()}


def changed(before: dict[str, Tensor], after: dict[str, Tensor]) -> set[str]:
    return {name for name in before if not torch.equal(before[name], after[name])}


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


def test_codes_move_at_the_end_of_a_step_and_only_if_it_was_applied() -> None:
    made, mixture = objective(), pairs()
    before = state(made)
    made.losses("audio", mixture.build(0)[0])["code"].backward()
    assert {name.split(".")[1] for name in changed(before, state(made))} == {"approximations", "audio", "text"}
    made.after_step(False)
    assert not any("codebook" in name for name in changed(before, state(made)))
    made.losses("audio", mixture.build(1)[0])
    made.after_step(True)
    assert "model.codebook.embedding" in changed(before, state(made))
    assert made.module.steps == 2 and isinstance(made, StatefulObjective)


def test_the_approximation_of_a_frozen_sense_stands_still_with_the_rest_of_it() -> None:
    made = objective()
    apply_freezing(made.module.model, made.module.model.freezing(["audio"]))
    before = state(made)
    made.total("audio", pairs().build(0)[0]).backward()
    moved = {name for name in changed(before, state(made)) if "approximations" in name}
    assert moved and all(".audio." in name for name in moved)


def test_the_micro_batches_of_a_step_count_as_one() -> None:
    one, two = objective(), objective()
    for made, batches in ((one, pairs(8).build(0)), (two, [pairs(4).build(index)[0] for index in range(2)])):
        for batch in batches:
            made.losses("audio", batch)
        made.after_step(True)
    torch.testing.assert_close(one.module.model.codebook.embedding, two.module.model.codebook.embedding)


def test_nothing_moves_outside_training() -> None:
    made = objective()
    made.module.eval()
    before = state(made)
    made.losses("audio", pairs().build(0)[0])
    made.after_step(True)
    assert changed(before, state(made)) == {"steps"}


def test_a_broken_sample_leaves_the_codes_and_its_approximation_alone() -> None:
    made, batch = objective(), pairs().build(0)[0]
    batch.features["audio"]["sequence"][1, 2] = math.nan
    before = state(made)
    assert not made.total("audio", batch).isfinite()
    made.after_step(False)
    moved = changed(before, state(made))
    assert not any("codebook" in name or "approximations.audio" in name or "inner.audio" in name for name in moved)


@pytest.mark.parametrize("stage", [1, 2])
def test_a_run_that_was_left_ends_with_the_bits_of_one_that_was_not(tmp_path: Path, stage: int) -> None:
    class Leave(Exception):
        pass

    def leave(state: LoopState) -> None:
        if state.step == 4:
            raise Leave

    def new() -> CometObjective:
        return objective(restart_after=2) if stage == 1 else second_stage()

    senses = PAIR if stage == 1 else ("video", "text")
    config = LoopConfig(steps=6, save_every=3, learning_rate=0.01, loader_workers=0)
    whole, first, second = new(), new(), new()
    train(whole, pairs(senses=senses), config, tmp_path / "whole")
    with pytest.raises(Leave):
        train(first, pairs(senses=senses), config, tmp_path / "left", hooks=Hooks(on_step_end=leave))
    result = train(second, pairs(senses=senses), config, tmp_path / "left")
    assert result.resumed_from == 3
    assert not changed(state(whole), state(second))
    kept = set(trainable_state(second.module))
    assert {"model.codebook.ema_count", "model.codebook.unused_steps", "inner.text.mean", "steps"} <= kept
    assert ("replay.codes.embedding" in kept) == (stage == 2)


def test_a_stage_leaves_the_parts_of_absent_senses_and_the_frozen_codes_alone(tmp_path: Path) -> None:
    made = second_stage()
    before = state(made)
    train(made, pairs(senses=("video", "text")), LoopConfig(steps=3, learning_rate=0.01, loader_workers=0), tmp_path)
    moved = changed(before, state(made))
    assert not any(".audio." in name or "snapshot" in name or "replay.codes" in name for name in moved)
    for part in ("model.semantic.video", "model.semantic.text", "model.adapter.common", "replay.context"):
        assert any(name.startswith(part) for name in moved), part


def test_the_replay_has_its_term_and_teaches_the_new_sense() -> None:
    only: dict[str, Any] = {**dict.fromkeys(TERMS, 0.0), "replay": 1.0}
    made = second_stage(**only)
    terms = made.losses("video", pairs(senses=("video", "text")).build(0)[0])
    assert terms.keys() == {"replay", "perplexity", "same_code"}
    terms["replay"].backward()
    touched = {n for n, p in made.module.named_parameters() if p.grad is not None and p.grad.any()}
    for part in ("model.semantic.video", "model.semantic.text", "model.contexts.video", "replay.context"):
        assert any(name.startswith(part) for name in touched), part


def test_ewc_holds_what_the_stage_made_and_pulls_it_back() -> None:
    made, ewc = objective(), OnlineEwc(2.0)
    model: Any = made.module.model
    before = state(made)
    consolidate(ewc, made, [pairs().build(index)[0] for index in range(3)], ewc_pattern("adapter", "text"))
    assert not changed(before, state(made)) and made.module.training
    assert {name.split(".")[1] for name in ewc.fisher} == {"common", "specific"}
    numbers = torch.cat([each.flatten() for each in ewc.fisher.values()])
    assert numbers.mean().item() == pytest.approx(1.0, rel=1e-4)
    assert ewc.penalty(model.named_parameters()).item() == 0
    with torch.no_grad():
        model.adapter.common.weight.add_(0.5)
    ewc.penalty(model.named_parameters()).backward()
    expected = 2.0 * ewc.fisher["adapter.common.weight"] * 0.5
    torch.testing.assert_close(model.adapter.common.weight.grad, expected, atol=1e-4, rtol=1e-4)


def test_a_penalty_hands_the_end_of_a_step_on() -> None:
    made = objective()
    made.losses("audio", pairs().build(0)[0])
    PenalisedObjective(made, {}, slots=1).after_step(True)
    assert made.module.model.codebook.updates == 1


@pytest.mark.parametrize("name", ["dcid", "cmcm", "turn"])
@pytest.mark.parametrize("comet", [False, True])
def test_every_method_trains_with_comet_and_without(name: str, comet: bool, tmp_path: Path) -> None:
    method = comet_method(name, comet=comet)
    config = {**method.config, **({"num_experts": 2} if comet else {})}
    made = objective(CometSettings(**method.settings), **config)
    before = state(made)
    result = train(made, pairs(), LoopConfig(steps=2, loader_workers=0), tmp_path)
    assert result.step == 2 and result.skipped_steps == 0
    assert "model.codebook.embedding" in changed(before, state(made))


def test_training_aligns_the_senses(tmp_path: Path) -> None:
    made, batch = objective(CometSettings(information=0.0), information=False), pairs(12).build(0)[0]
    settings = LoopConfig(steps=60, learning_rate=0.01, weight_decay=0.0, loader_workers=0, max_grad_norm=5.0)

    def contrast() -> float:
        made.module.eval()
        return made.losses("audio", batch)["contrast"].item()

    before = contrast()
    train(made, pairs(12), settings, tmp_path)
    assert contrast() < 0.8 * before


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"modalities": ["audio"]}, "a stage of the senses"),
        ({"settings": CometSettings(information=1.0)}, "no approximations for vCLUB"),
        ({"settings": CometSettings(**NOTHING)}, "no term of the objective has a weight"),
        ({"settings": CometSettings(**{**NOTHING, "replay": 1.0})}, "no term of the objective has a weight"),
    ],
)
def test_what_cannot_train_is_refused(change: dict[str, Any], what: str) -> None:
    model = objective(information=False).module.model
    given = {"modalities": PAIR, "settings": CometSettings(information=0.0), **change}
    with pytest.raises(ConfigError, match=what):
        CometObjective(model, **given)


def test_a_batch_that_misses_one_side_is_refused() -> None:
    (batch, *_), lone = pairs().build(0), PAIR[0]
    batch = replace(batch, features={lone: batch.features[lone]})
    with pytest.raises(FeatureShapeError, match=f"{PAIR[1]}: the batch has {lone} alone"):
        objective().losses(lone, batch)


def test_a_mediator_outside_the_stage_is_refused() -> None:
    made = second_stage()
    with pytest.raises(ConfigError, match="the mediator 'text' is not among the senses"):
        CometObjective(made.module.model, modalities=("video", "audio"), settings=made.settings,
                       replay=made.module.replay)  # fmt: skip


@pytest.mark.parametrize("change", [{"code": -1.0}, {"axis": "sideways"}, {"inner_steps": -1}, {"scale": math.inf}])
def test_settings_that_cannot_be_used_are_named(change: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=f"{next(iter(change))} is"):
        replace(CometSettings(), **change)
