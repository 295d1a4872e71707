"""A stage's LoRA: where it sits, what its merge comes to, and that it can be read back."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from torch import Tensor

from polysense.continual.adapter_settings import AdapterSettings
from polysense.continual.stage_adapter import (
    StageAdapter,
    adapter_folder,
    add_adapter,
    merge_adapter,
    read_adapter,
    read_adapters,
    read_factors,
    save_adapter,
    take_out,
    trained_adapter,
)
from polysense.errors import CheckpointError, ConfigError, UnsafeFileError
from polysense.testing import tiny_mera

SETTINGS = AdapterSettings(rank=4, alpha=8.0, dropout=0.0)


def linears(model: Any) -> dict[str, Tensor]:
    """The language model's weights that adapters sit on, copied."""
    state = model.state_dict()
    return {key: state[key].clone() for key in state if "language_model.layers" in key and "_proj" in key}


def with_adapter(model: Any, stage: int, method: str | None = "running_average") -> tuple[Any, StageAdapter]:
    """An adapter that has learned something."""
    wrapped = add_adapter(model, SETTINGS, stage=stage, seed=0)
    generator = torch.Generator().manual_seed(stage)
    for name, parameter in wrapped.named_parameters():
        if "lora_B" in name:
            parameter.data = torch.randn(parameter.shape, generator=generator) * 0.1
    return wrapped, trained_adapter(wrapped, stage=stage, method=method)


def delta(adapter: StageAdapter, key: str) -> Tensor:
    A, B, scaling = adapter.factors[key]
    return scaling * (B @ A)


def test_only_the_linears_of_the_language_model_get_an_adapter_and_only_it_trains() -> None:
    model = tiny_mera("audio")
    wrapped, adapter = with_adapter(model, 1)
    assert len(adapter.factors) == 2 * 7 and set(adapter.factors) == set(linears(tiny_mera("audio")))
    assert all("lora_" in name for name, parameter in wrapped.named_parameters() if parameter.requires_grad)
    assert {scaling for _, _, scaling in adapter.factors.values()} == {2.0}
    fresh = [trained_adapter(add_adapter(tiny_mera(), SETTINGS, stage=1, seed=seed), stage=1, method=None)
             for seed in (0, 0, 1)]  # fmt: skip
    key = next(iter(adapter.factors))
    assert torch.equal(fresh[0].factors[key][0], fresh[1].factors[key][0])
    assert not torch.equal(fresh[0].factors[key][0], fresh[2].factors[key][0])


def test_three_stages_are_the_average_of_whole_weights_step_by_step() -> None:
    model = tiny_mera()
    base = linears(model)
    earlier: list[StageAdapter] = []
    wanted = dict(base)
    for stage in (1, 2, 3):
        wrapped, adapter = with_adapter(model, stage)
        wanted = {key: (stage - 1) / stage * weight + (weight + delta(adapter, key)) / stage
                  for key, weight in wanted.items()}  # fmt: skip
        errors = merge_adapter(wrapped, adapter, method="running_average", base=base, earlier=earlier)
        assert errors.by_stage < 1e-6 and errors.once == 0.0  # the weights are in float32
        model = wrapped.get_base_model()
        earlier.append(adapter)
    merged = linears(model)
    assert merged.keys() == base.keys()
    for key, weight in merged.items():
        assert torch.allclose(weight, wanted[key], atol=1e-6), key
        summed = base[key] + sum(delta(each, key) / each.stage for each in earlier)
        assert torch.allclose(weight, summed, atol=1e-6)


def test_both_rounding_errors_are_told() -> None:
    """Weights in half precision are rounded once from W_0, and once per stage without it."""
    model: Any = tiny_mera().to(torch.bfloat16)
    base, earlier = linears(model), list[StageAdapter]()
    sums = {key: weight.float() for key, weight in base.items()}
    for stage in (1, 2, 3):
        before = linears(model)
        wrapped, adapter = with_adapter(model, stage)
        errors = merge_adapter(wrapped, adapter, method="running_average", base=base, earlier=earlier)
        model = wrapped.get_base_model()
        earlier.append(adapter)
        once, by_stage = 0.0, 0.0
        for key, weight in linears(model).items():
            sums[key] += delta(adapter, key) / stage
            last = before[key].float() + delta(adapter, key) / stage
            once = max(once, float((weight.float() - sums[key]).abs().max()))
            by_stage = max(by_stage, float((last - sums[key]).abs().max()))
        assert (errors.once, errors.by_stage) == pytest.approx((once, by_stage), rel=1e-3, abs=1e-6)
        assert once > 0 and (by_stage > 0) == (stage > 1)


@pytest.mark.parametrize(("method", "share"), [(None, 1.0), ("task_arithmetic", 0.4), ("running_average", 0.5)])
def test_other_methods_merge_effective_weights(method: str | None, share: float | None) -> None:
    model = tiny_mera()
    before = linears(model)
    wrapped, adapter = with_adapter(model, 2, method)
    assert adapter.coefficient == share
    merge_adapter(wrapped, adapter, method=method, base=before)
    after = linears(wrapped.get_base_model())
    for key in before:
        change = after[key] - before[key]
        if share is not None:
            assert torch.allclose(change, share * delta(adapter, key), atol=1e-6)
        assert not torch.equal(after[key], before[key])


def test_a_saved_adapter_is_pefts_and_comes_back_with_its_coefficient(tmp_path: Path) -> None:
    model = tiny_mera()
    wrapped, adapter = with_adapter(model, 1)
    folder = tmp_path / "adapters" / "stage-1"
    save_adapter(wrapped, folder, adapter, method="running_average")
    assert {path.name for path in folder.iterdir()} == {"adapter_config.json", "adapter_model.safetensors",
                                                        "merge.json"}  # fmt: skip
    (read,) = read_adapters(tmp_path)
    assert (read.stage, read.coefficient, read.factors.keys()) == (1, 1.0, adapter.factors.keys())
    for key, (A, B, scaling) in adapter.factors.items():
        assert torch.equal(A, read.factors[key][0]) and torch.equal(B, read.factors[key][1])
        assert scaling == read.factors[key][2]
    merge_adapter(wrapped, adapter, method="running_average")
    again: Any = PeftModel.from_pretrained(tiny_mera(), folder)
    ids = torch.tensor([[1, 8, 9, 10]])
    assert torch.allclose(again(input_ids=ids).logits, model(input_ids=ids).logits, atol=1e-5)


def test_sums_from_the_base_end_where_a_stage_changed_more_than_its_adapter() -> None:
    model = tiny_mera()
    base = linears(model)
    wrapped, first = with_adapter(model, 1)
    merge_adapter(wrapped, first, method="running_average")
    model = wrapped.get_base_model()
    key = next(iter(base))
    model.get_parameter(key).data += 1.0  # as realigning with the language model may
    before = linears(model)
    wrapped, second = with_adapter(model, 2)
    merge_adapter(wrapped, second, method="running_average", base=base, earlier=[replace(first, whole=False)])
    after = linears(wrapped.get_base_model())[key]
    assert torch.allclose(after, before[key] + delta(second, key) / 2, atol=1e-6)


def test_what_was_added_whole_is_taken_out_again_and_trained_on(tmp_path: Path) -> None:
    model = tiny_mera()
    base = linears(model)
    wrapped, adapter = with_adapter(model, 1, None)
    save_adapter(wrapped, adapter_folder(tmp_path, 1), adapter, method=None)
    merge_adapter(wrapped, adapter, method=None)
    model = wrapped.get_base_model()
    read = read_adapter(tmp_path / "adapters" / "stage-1")
    take_out(model, replace(read, whole=False), {})
    assert all(torch.allclose(weight, base[key], atol=1e-6) for key, weight in linears(model).items())
    take_out(model, read, base)
    assert all(torch.equal(weight, base[key]) for key, weight in linears(model).items())
    again = trained_adapter(add_adapter(model, SETTINGS, stage=2, seed=0, go_on=read), stage=2, method=None)
    for key, (A, B, scaling) in again.factors.items():
        assert torch.equal(A, adapter.factors[key][0]) and torch.equal(B, adapter.factors[key][1]) and scaling == 2.0
    with pytest.raises(CheckpointError, match="of other layers or another rank"):
        add_adapter(tiny_mera(), replace(SETTINGS, rank=2), stage=2, seed=0, go_on=read)


def test_adapters_out_of_order_and_damaged_ones_are_refused(tmp_path: Path) -> None:
    wrapped, adapter = with_adapter(tiny_mera(), 2)
    folder = tmp_path / "adapters" / "stage-2"
    save_adapter(wrapped, folder, adapter, method="running_average")
    assert [each.stage for each in read_adapters(tmp_path)] == [2]  # of a LLaVA that was extended
    later = tmp_path / "adapters" / "stage-4"
    save_adapter(wrapped, later, replace(adapter, stage=4), method="running_average")
    with pytest.raises(CheckpointError, match=r"adapters of the stages \[2, 4\]"):
        read_adapters(tmp_path)
    shutil.rmtree(later)
    for record in ("{}", '{"stage": Infinity, "coefficient": 1.0, "whole": true}'):
        (folder / "merge.json").write_text(record)
        with pytest.raises(CheckpointError, match="cannot be read"):
            read_adapters(tmp_path)
    shutil.copytree(folder, tmp_path / "adapters" / "stage-2 (copy)")
    with pytest.raises(CheckpointError, match=r"stage-2 \(copy\): the name has no number of a stage"):
        read_adapters(tmp_path)


def write_config(folder: Path, **changes: Any) -> None:
    path = folder / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_factors_of_any_plain_lora_are_read_with_its_scaling_and_no_others(tmp_path: Path) -> None:
    wrapped, adapter = with_adapter(tiny_mera(), 1)
    save_adapter(wrapped, tmp_path, adapter, method=None)
    key = next(iter(adapter.factors))
    assert torch.equal(read_factors(tmp_path)[key][1], adapter.factors[key][1])
    write_config(tmp_path, use_rslora=True)
    assert read_factors(tmp_path)[key][2] == 8.0 / 4**0.5
    write_config(tmp_path, use_rslora=False, rank_pattern={"q_proj": 2})
    with pytest.raises(CheckpointError, match="more than one LoRA of linears"):
        read_factors(tmp_path)
    tensors = load_file(tmp_path / "adapter_model.safetensors")
    write_config(tmp_path, rank_pattern={})
    save_file({**tensors, "base_model.model.lm_head.bias": torch.zeros(3)}, tmp_path / "adapter_model.safetensors")
    with pytest.raises(CheckpointError, match="more than one LoRA of linears"):
        read_factors(tmp_path)
    save_file(tensors, tmp_path / "adapter_model.safetensors")
    for changes in ({"init_lora_weights": "pissa_niter_4"}, {"layer_replication": [[0, 2]]}):
        write_config(tmp_path, **changes)
        with pytest.raises(CheckpointError, match="more than one LoRA of linears"):
            read_factors(tmp_path)
        write_config(tmp_path, init_lora_weights=True)
    write_config(tmp_path, layer_replication=None)
    for rank in (-4, 8):
        write_config(tmp_path, r=rank)
        with pytest.raises(CheckpointError, match=rf"tells of rank {rank}, the factors of \[4\]"):
            read_factors(tmp_path)
    write_config(tmp_path, r=4)
    save_file({}, tmp_path / "adapter_model.safetensors")
    with pytest.raises(CheckpointError, match="the factors of none"):
        read_factors(tmp_path)
    (tmp_path / "adapter_model.safetensors").write_bytes(b"half")
    with pytest.raises(CheckpointError, match="cannot be read"):
        read_factors(tmp_path)


def test_an_adapter_that_is_a_link_to_elsewhere_is_not_read(tmp_path: Path) -> None:
    wrapped, adapter = with_adapter(tiny_mera(), 1)
    save_adapter(wrapped, tmp_path / "theirs", adapter, method=None)
    (tmp_path / "links").mkdir()
    for path in (tmp_path / "theirs").iterdir():
        (tmp_path / "links" / path.name).symlink_to(path)
    with pytest.raises(UnsafeFileError, match="leads outside the folder"):
        read_factors(tmp_path / "links")


@pytest.mark.parametrize(
    ("targets", "named"),
    [
        (r".*(q_proj|embed_tokens)", r"model\.encoders\.image\.\S+q_proj \(Linear\)"),
        (r".*language_model\.(embed_tokens|layers\.0\.mlp\.up_proj)", r"\S+embed_tokens \(Embedding\)"),
        (r".*(language_model\.\S+_proj|lm_head)", r"lm_head \(Linear\)"),
        (r".*language_model\.layers\.0\.mlp", r"\S+layers\.0\.mlp \(LlamaMLP\)"),
    ],
)
def test_only_linears_of_the_language_models_body_get_an_adapter(targets: str, named: str) -> None:
    model = tiny_mera()
    names = list(model.state_dict())
    with pytest.raises(ConfigError, match=f"adapter: targets: {named} is no linear of the language model's body"):
        add_adapter(model, AdapterSettings(rank=2, targets=targets), stage=1, seed=0)
    assert list(model.state_dict()) == names


def test_a_pattern_without_a_linear_and_an_unknown_method_are_refused() -> None:
    with pytest.raises(ConfigError, match="no adapter can be added"):
        add_adapter(tiny_mera(), AdapterSettings(rank=2, targets=r"nothing\.at\.all"), stage=1, seed=0)
    with pytest.raises(ConfigError, match="no such method"):
        with_adapter(tiny_mera(), 1, "no such method")
