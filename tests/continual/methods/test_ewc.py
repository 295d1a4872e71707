"""Online EWC: one LoRA through all stages, one importance and one anchor."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from polysense.continual.methods import Ewc, FreshLora
from polysense.continual.stage_adapter import adapter_folder, read_adapter, record_merged
from polysense.errors import CheckpointError, ConfigError
from polysense.merging import effective_weight
from polysense.models.mera import MeraForConditionalGeneration
from polysense.testing.toy import ToyDataset
from tests.continual.methods.chain import SENSES, Chain, logits, sample_losses, sequences

METHOD = Ewc(strength=3.0, share=1.0)


def lora(model: Any) -> dict[str, Tensor]:
    return {name: parameter for name, parameter in model.named_parameters() if ".lora_" in name}


def state(chain: Chain, number: int) -> dict[str, Tensor]:
    return load_file(adapter_folder(chain.stage(number), number) / "ewc.safetensors")


def fisher_by_hand(model: Any, sense: str) -> dict[str, Tensor]:
    """Mean over samples of the squared gradient of each sample's loss, sample by sample."""
    total = {name: torch.zeros_like(each) for name, each in lora(model).items()}
    for row in sequences(sense):
        gradients = torch.autograd.grad(sample_losses(model, row[None])[0], list(lora(model).values()))
        for name, gradient in zip(total, gradients, strict=True):
            total[name] += gradient.square() / len(sequences(sense))
    return total


def test_the_stage_goes_on_with_the_lora_on_the_base_weights(chain: Chain) -> None:
    before = logits(chain.start(2))
    model, _ = chain.begun(METHOD, 2)
    assert torch.allclose(logits(model), before, atol=1e-5)  # the same function, unmerged
    last, base = read_adapter(adapter_folder(chain.stage(1), 1)), chain.context(2, model).base_weights()
    for key, (A, B, _) in last.factors.items():
        place = key.removesuffix(".weight")
        assert torch.equal(model.get_parameter(f"{place}.base_layer.weight"), base[key])
        assert torch.equal(model.get_parameter(f"{place}.lora_A.default.weight"), A)
        assert torch.equal(model.get_parameter(f"{place}.lora_B.default.weight"), B)


def test_the_penalty_is_zero_at_the_anchor_and_half_lambda_f_d_squared_beside_it(chain: Chain) -> None:
    model, learning = chain.begun(METHOD, 2)
    penalty = learning.penalties()["ewc"]
    assert float(penalty().detach()) == 0
    wanted = sum(float(each.sum()) for each in fisher_by_hand(model, SENSES[0]).values()) * 3.0 / 2 * 0.1**2
    with torch.no_grad():
        for parameter in lora(model).values():
            parameter += 0.1
    assert float(penalty().detach()) == pytest.approx(wanted, rel=1e-3) and wanted > 0


@pytest.mark.parametrize("changed", [{"rank": 3}, {"alpha": 8.0}, {"targets": r".*q_proj"}], ids=str)
def test_a_lora_of_other_settings_is_refused_before_anything_trains(chain: Chain, changed: dict[str, Any]) -> None:
    model = chain.start(2)
    context = chain.context(2, model)
    learning = METHOD.learning(model, replace(context, adapter=replace(context.adapter, **changed)))
    with pytest.raises(CheckpointError, match="the adapter of stage 1 is of other layers, another rank or another"):
        learning.check()


def test_three_stages_have_one_importance_and_the_last_stage_as_their_anchor(chain: Chain) -> None:
    chain.learn(METHOD, 2)
    second = state(chain, 2)
    model, _ = chain.begun(METHOD, 3)
    own = {name: parameter.detach().clone() for name, parameter in lora(model).items()}
    by_hand = fisher_by_hand(model, SENSES[1])
    chain.learn(METHOD, 3)
    third = state(chain, 3)
    assert second.keys() == third.keys() == {f"{part}.{name}" for part in ("fisher", "anchor") for name in own}
    for name, each in own.items():
        assert third[f"fisher.{name}"].dtype == torch.float32
        assert torch.equal(third[f"anchor.{name}"], each)
        assert torch.allclose(third[f"fisher.{name}"], second[f"fisher.{name}"] + by_hand[name], rtol=1e-3, atol=1e-9)


def test_the_folder_has_the_merged_weights_and_this_one_lora(chain: Chain) -> None:
    model = chain.learn(METHOD, 2)
    base = chain.context(2, model).base_weights()
    assert [path.name for path in (chain.stage(2) / "adapters").iterdir()] == ["stage-2"]
    adapter = read_adapter(adapter_folder(chain.stage(2), 2))
    assert (adapter.coefficient, adapter.whole) == (1.0, True)
    again = MeraForConditionalGeneration.from_pretrained(chain.stage(2))
    for key in adapter.factors:
        assert torch.equal(again.get_parameter(key), effective_weight(base[key], [adapter.scaled(key)]))
    assert torch.equal(logits(again), logits(model))


def test_a_stronger_penalty_holds_the_lora_nearer_to_the_anchor(chain: Chain) -> None:
    moved = []
    for strength in (0.0, 1000.0):
        chain.learn(Ewc(strength=strength, share=1.0), 2)
        anchor, now = state(chain, 2), read_adapter(adapter_folder(chain.stage(2), 2))
        squares = [(anchor[f"anchor.{key.removesuffix('.weight')}.lora_B.default.weight"] - B).square().sum()
                   for key, (_, B, _) in now.factors.items()]  # fmt: skip
        moved.append(float(torch.stack(squares).sum()))
        for path in sorted(chain.stage(2).rglob("*"), reverse=True):
            path.unlink() if path.is_file() else path.rmdir()
    assert moved[1] < moved[0]


def test_what_was_estimated_is_kept_for_a_run_that_goes_on(chain: Chain, monkeypatch: pytest.MonkeyPatch) -> None:
    chain.begun(METHOD, 2)

    def fail(*_: Any, **__: Any) -> None:
        raise AssertionError("the Fisher information was computed again")

    monkeypatch.setattr("polysense.continual.methods.ewc.sample_fisher", fail)
    _, learning = chain.begun(METHOD, 2)
    assert float(learning.penalties()["ewc"]().detach()) == 0


def test_a_stage_whose_realigning_changed_the_language_model_is_taken_as_it_is(tmp_path: Path) -> None:
    chain = Chain(tmp_path, whole=False)
    chain.learn(FreshLora(merge=None), 1)
    model = chain.start(2)
    adapter = read_adapter(adapter_folder(chain.stage(1), 1))
    key = next(iter(adapter.factors))
    model.get_parameter(key).data += 1.0
    model.save_pretrained(chain.stage(1))
    record_merged(adapter_folder(chain.stage(1), 1), model, adapter.factors)
    before = logits(model)
    begun, _ = chain.begun(METHOD, 2)
    assert torch.allclose(logits(begun), before, atol=1e-4)
    base = chain.context(2, begun).base_weights()[key]
    place = key.removesuffix(".weight")
    assert torch.allclose(begun.get_parameter(f"{place}.base_layer.weight"), base + 1.0, atol=1e-5)


def test_data_that_tell_nothing_of_the_sense_before_are_refused() -> None:
    with pytest.raises(ConfigError, match="no data set of the sense before"):
        METHOD.check_data({})
    rows = ToyDataset("image", 3)
    METHOD.check_data({"image": rows})
    with pytest.raises(ConfigError, match=r"image: a share of 0\.1 of its 3 samples is less than one"):
        Ewc(share=0.1).check_data({"image": rows})


def test_a_folder_without_an_adapter_or_its_state_is_refused_before_its_weights_are_read(chain: Chain) -> None:
    METHOD.check_start(chain.stage(1), 1)
    with pytest.raises(CheckpointError, match="stage-2: the stage has no adapter of its own that EWC could go on"):
        METHOD.check_start(chain.stage(1), 2)
    chain.stage(1).joinpath("adapters/stage-1").rename(chain.stage(1) / "adapters" / "stage-2")
    with pytest.raises(CheckpointError, match=r"ewc\.safetensors: the stage has no state"):
        METHOD.check_start(chain.stage(1), 2)


def test_a_lost_state_and_impossible_options_are_named(chain: Chain) -> None:
    chain.learn(METHOD, 2)
    (adapter_folder(chain.stage(2), 2) / "ewc.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"ewc\.safetensors: the stage has no state"):
        chain.begun(METHOD, 3)
    for options, message in (({"strength": -1.0}, "lambda is -1"), ({"share": 0.0}, "the share is 0")):
        with pytest.raises(ConfigError, match=message):
            Ewc(**options)
