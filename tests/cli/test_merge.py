"""`polysense merge` merges folders as the library does; `polysense export` writes all stages as one adapter."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from transformers import AutoModelForCausalLM

from polysense.cli import main
from polysense.continual.adapter_settings import AdapterSettings
from polysense.continual.stage_adapter import (
    RECORD,
    add_adapter,
    merge_adapter,
    record_merged,
    save_adapter,
    trained_adapter,
)
from polysense.merging import registry
from polysense.models.mera import MeraForConditionalGeneration, MeraProcessor
from polysense.testing import tiny_llama
from tests.cli.stand_ins import stand_in
from tests.models.mera.saved import write_mera


def weights(folder: Path) -> dict[str, Tensor]:
    return load_file(folder / "model.safetensors")


@pytest.fixture(scope="module")
def llamas(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three Llamas, each with what a stage would write beside it."""
    folder = tmp_path_factory.mktemp("llamas")
    for seed, name in enumerate(("a", "b", "c")):
        tiny_llama(seed).save_pretrained(folder / name)
        (folder / name / "stage.json").write_text("{}")
    return folder


@pytest.fixture(scope="module")
def stages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A MERA model of a saved language model after two stages, with their adapters."""
    folder = tmp_path_factory.mktemp("stages")
    tiny_llama().save_pretrained(folder / "llm")
    model: Any = MeraForConditionalGeneration.from_parts(folder / "llm")
    for stage in (1, 2):
        wrapped = add_adapter(model, AdapterSettings(rank=2, alpha=4.0, dropout=0.0), stage=stage, seed=0)
        for name, parameter in wrapped.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(parameter, std=0.1, generator=torch.Generator().manual_seed(stage))
        adapter = trained_adapter(wrapped, stage=stage, method="running_average")
        save_adapter(wrapped, folder / "adapters" / f"stage-{stage}", adapter, method="running_average")
        merge_adapter(wrapped, adapter, method="running_average")
        model = wrapped.get_base_model()
        record_merged(folder / "adapters" / f"stage-{stage}", model, adapter.factors)
    model.save_pretrained(folder)
    return folder


def test_two_models_are_averaged_and_a_third_counts_a_third(
    llamas: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    a, b, c = (weights(llamas / name) for name in "abc")
    assert main(["merge", str(llamas / "a"), str(llamas / "b"), "-o", str(tmp_path / "two")]) == 0
    assert main(["merge", *(str(llamas / name) for name in "abc"), "-o", str(tmp_path / "three")]) == 0
    assert capsys.readouterr().out == f"{tmp_path / 'two'}\n{tmp_path / 'three'}\n"
    for key in a:
        torch.testing.assert_close(weights(tmp_path / "two")[key], (a[key] + b[key]) / 2)
        torch.testing.assert_close(weights(tmp_path / "three")[key], (a[key] + b[key] + c[key]) / 3)
    assert AutoModelForCausalLM.from_pretrained(tmp_path / "two") is not None
    assert not (tmp_path / "two" / "stage.json").exists(), "it tells of another model"


def test_method_stage_base_modules_and_options_are_the_librarys(
    llamas: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    merge = stand_in(monkeypatch, "polysense.merging.merge_folders")
    words = ["merge", str(llamas / "b"), str(llamas / "c"), "-o", str(tmp_path / "out"), "--method", "ties",
             "--base", str(llamas / "a"), "--stage", "3", "--shared", "model.layers", "--options", "density=0.5",
             "scale=2.0"]  # fmt: skip
    assert main(words) == 0
    call = merge.call_args
    assert call.args == ([llamas / "b", llamas / "c"], tmp_path / "out")
    assert {**call.kwargs, "finish": None} == {
        "stage": 3, "method": "ties", "base": llamas / "a", "shared": ["model.layers"], "finish": None,
        "density": 0.5, "scale": 2.0,
    }  # fmt: skip


def test_of_mera_checkpoints_the_language_model_is_merged_and_every_sense_is_kept(tmp_path: Path) -> None:
    before, after = write_mera(tmp_path / "before"), write_mera(tmp_path / "after", "depth")
    model = MeraForConditionalGeneration.from_pretrained(after)
    for parameter in model.parameters():
        parameter.data += 1.0
    model.save_pretrained(after)
    assert main(["merge", str(before), str(after), "-o", str(tmp_path / "out"), "--stage", "4"]) == 0
    old, new, merged = (weights(folder) for folder in (before, after, tmp_path / "out"))
    assert merged.keys() == new.keys() > old.keys()
    for key, weight in merged.items():
        if "language_model" in key or key.startswith("lm_head"):
            torch.testing.assert_close(weight, 0.75 * old[key] + 0.25 * new[key])
        else:
            assert torch.equal(weight, old.get(key, new[key])), key
    assert "depth" in MeraForConditionalGeneration.from_pretrained(tmp_path / "out").modalities
    assert "depth" in MeraProcessor.from_pretrained(tmp_path / "out").modalities


def test_mera_checkpoints_in_the_wrong_order_or_of_two_chains_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = {"first": (), "depth": ("depth",), "audio": ("audio",)}
    folders = {name: str(write_mera(tmp_path / name, *senses)) for name, senses in names.items()}
    for before, after in (("depth", "first"), ("depth", "audio"), ("audio", "depth")):
        assert main(["merge", folders[before], folders[after], "-o", str(tmp_path / "out")]) == 1
        captured = capsys.readouterr()
        assert f"{folders[after]}: the last model, whose config the result has, lacks" in captured.err
        assert not (tmp_path / "out").exists()


def test_adapters_are_merged_exactly_into_the_bare_language_model(stages: Path, tmp_path: Path) -> None:
    adapters = [str(stages / "adapters" / f"stage-{stage}") for stage in (1, 2)]
    assert main(["merge", str(stages / "llm"), *adapters, "-o", str(tmp_path / "out")]) == 0
    merged, wanted, base = weights(tmp_path / "out"), weights(stages), weights(stages / "llm")
    for key, weight in merged.items():
        place = key if key == "lm_head.weight" else key.replace("model.", "model.language_model.", 1)
        torch.testing.assert_close(weight, wanted[place], atol=1e-6, rtol=0)
    assert not torch.equal(merged["model.layers.0.mlp.up_proj.weight"], base["model.layers.0.mlp.up_proj.weight"])


def test_adapters_know_their_stages_in_whatever_order_they_come(stages: Path, tmp_path: Path) -> None:
    adapters = [str(stages / "adapters" / f"stage-{stage}") for stage in (1, 2)]
    for name, order in (("there", adapters), ("back", adapters[::-1])):
        assert main(["merge", str(stages / "llm"), *order, "-o", str(tmp_path / name)]) == 0
    there, back = weights(tmp_path / "there"), weights(tmp_path / "back")
    for key in there:
        torch.testing.assert_close(there[key], back[key], atol=1e-6, rtol=0)


@pytest.mark.parametrize("coefficient", [1.0, 0.3])
def test_a_stages_adapter_counts_what_it_does_when_it_is_exported(
    coefficient: float, stages: Path, tmp_path: Path
) -> None:
    stage = shutil.copytree(stages, tmp_path / "stage", ignore=shutil.ignore_patterns("MANIFEST.json"))
    adapters = [stage / "adapters" / f"stage-{number}" for number in (1, 2)]
    record = json.loads((adapters[1] / RECORD).read_text())
    (adapters[1] / RECORD).write_text(json.dumps({**record, "coefficient": coefficient}))
    llm = str(stages / "llm")
    assert main(["merge", llm, *map(str, adapters), "-o", str(tmp_path / "merged")]) == 0
    assert main(["export", str(stage), "-o", str(tmp_path / "one")]) == 0
    assert main(["merge", llm, str(tmp_path / "one"), "-o", str(tmp_path / "exported"), "--stage", "1"]) == 0
    merged, exported = weights(tmp_path / "merged"), weights(tmp_path / "exported")
    for key, weight in merged.items():
        torch.testing.assert_close(weight, exported[key], atol=1e-6, rtol=0)


@pytest.mark.parametrize("change", [{"coefficient": None}, {"whole": False}])
def test_an_adapter_that_does_not_tell_all_is_not_merged_as_its_stage_did(
    change: dict[str, Any], stages: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    adapter = shutil.copytree(stages / "adapters" / "stage-1", tmp_path / "adapter")
    record = json.loads((adapter / RECORD).read_text())
    (adapter / RECORD).write_text(json.dumps({**record, **change}))
    words = ["merge", str(stages / "llm"), str(adapter), "-o", str(tmp_path / "out")]
    assert main(words) == 1 and "by more than a multiple of its adapter" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    assert main([*words, "--method", "running_average"]) == 0


def test_an_adapter_counts_once(stages: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    adapter = stages / "adapters" / "stage-1"
    words = ["merge", str(stages / "llm"), str(adapter), f"{adapter.parent}/../adapters/stage-1", "-o"]
    assert main([*words, str(tmp_path / "out")]) == 1 and "an adapter is given twice" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_damaged_export_is_not_merged(stages: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", str(stages), "-o", str(tmp_path / "adapter")]) == 0
    path = tmp_path / "adapter" / "adapter_model.safetensors"
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(content)
    assert main(["merge", str(stages / "llm"), str(path.parent), "-o", str(tmp_path / "out")]) == 1
    assert f"{path}: has another content than when it was written" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_the_stage_of_an_adapter_may_be_said(stages: Path, tmp_path: Path) -> None:
    adapter = stages / "adapters" / "stage-1"
    for stage in ("1", "4"):
        words = ["merge", str(stages / "llm"), str(adapter), "-o", str(tmp_path / stage), "--stage", stage]
        assert main(words) == 0
    base, one, four = (weights(folder) for folder in (stages / "llm", tmp_path / "1", tmp_path / "4"))
    for key in base:
        torch.testing.assert_close(four[key] - base[key], (one[key] - base[key]) / 4, atol=1e-6, rtol=1e-5)


def test_an_adapter_is_merged_by_any_method_that_scales_it(stages: Path, tmp_path: Path) -> None:
    adapter = str(stages / "adapters" / "stage-1")
    for name, words in {"half": [], "fifth": ["--method", "task_arithmetic", "--options", "scale=0.2"]}.items():
        given = ["merge", str(stages / "llm"), adapter, "-o", str(tmp_path / name), "--stage", "2"]
        assert main([*given, *words]) == 0
    base, half, fifth = (weights(folder) for folder in (stages / "llm", tmp_path / "half", tmp_path / "fifth"))
    for key in base:
        torch.testing.assert_close(fifth[key] - base[key], 0.4 * (half[key] - base[key]), atol=1e-6, rtol=1e-5)


def test_a_method_of_ones_own_is_imported(
    llamas: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(registry, "_METHODS", dict(registry._METHODS))
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "own_merging.py").write_text(
        "from polysense.merging import register_merge_method\n\n\n"
        '@register_merge_method("latest")\ndef latest(block):\n    return block.current\n'
    )
    words = ["merge", str(llamas / "a"), str(llamas / "b"), "-o", str(tmp_path / "out"), "--method", "latest"]
    assert main(words) == 1 and "there is no merge method 'latest'" in capsys.readouterr().err
    assert main([*words, "--imports", "own_merging"]) == 0
    merged, wanted = weights(tmp_path / "out"), weights(llamas / "b")
    assert all(torch.equal(merged[key], wanted[key]) for key in wanted)


def test_all_stages_are_exported_as_one_adapter(
    stages: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for onto in ("llm", "mera"):
        assert main(["export", str(stages), "-o", str(tmp_path / onto), "--onto", onto]) == 0
        captured = capsys.readouterr()
        assert captured.out == f"{tmp_path / onto}\n" and "one adapter of rank 4" in captured.err
        assert json.loads((tmp_path / onto / "adapter_config.json").read_text())["r"] == 4
    # what was exported is a plain LoRA that can be merged in turn: 1 * (1 delta_1 + 1/2 delta_2)
    words = ["merge", str(stages / "llm"), str(tmp_path / "llm"), "-o", str(tmp_path / "out"), "--stage", "1"]
    assert main(words) == 0
    merged, wanted = weights(tmp_path / "out"), weights(stages)
    key = "model.layers.1.self_attn.q_proj.weight"
    torch.testing.assert_close(merged[key], wanted[key.replace("model.", "model.language_model.")], atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["merge", "a"], "a model, then models or adapters"),
        (["merge", "adapters/stage-1", "a"], "a model, then models or adapters"),
        (["merge", "a", "b", "adapters/stage-1"], "a model, then models or adapters"),
        (["merge", "a", "b", "--method", "magic"], "there is no merge method 'magic'"),
        (["merge", "a", "b", "--method", "ties"], "needs the model before the first stage"),
        (["merge", "a", "b", "--stage", "0"], "there is no stage 0"),
        (["merge", "a", "b", "--options", "stage=3"], "has no options ['stage']"),
        (["merge", "a", "b", "--options", "density"], "the option 'density' has no '='"),
        (["merge", "a", "b", "--options", "density=[1"], "--options density: the text is not YAML"),
        (["merge", "a", "b", "--options", "density=2020-13-01"], "density, line 1: '2020-13-01' is read as timestamp"),
        (["merge", "a", "nowhere/at/all"], "nowhere/at/all: there is no such folder"),
        (["merge", "a", "adapters/stage-1", "--method", "slerp"], "'slerp' does not add up deltas"),
        (["merge", "a", "adapters/stage-1", "--shared", "lm_head"], "without base or shared modules"),
        (["merge", "a", "adapters/stage-1", "--options", "scale=2"], "'running_average' has no options ['scale']"),
        (["merge", "b", "adapters/stage-1"], "stage-1: the adapter of stage 1 was trained on other weights than"),
        (["merge", "a", "adapters/stage-2"], "stage-2: the adapter of stage 2 was trained on other weights than"),
        (["export", "a"], "there are no adapters"),
    ],
)
def test_what_cannot_be_merged_is_one_error_and_leaves_nothing(
    words: list[str], reason: str, llamas: Path, stages: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    adapters = {f"adapters/stage-{number}": stages / "adapters" / f"stage-{number}" for number in (1, 2)}
    places = {"a": llamas / "a", "b": llamas / "b", **adapters}
    out = tmp_path / "out"
    assert main([*(str(places.get(word, word)) for word in words), "-o", str(out)]) == 1
    captured = capsys.readouterr()
    assert reason in captured.err and captured.err.count("polysense: ") == 1 and captured.out == ""
    assert not list(tmp_path.iterdir())


def test_what_is_there_is_not_overwritten(llamas: Path, stages: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = weights(llamas / "c")
    for words in (["merge", str(llamas / "a"), str(llamas / "b")], ["export", str(stages)]):
        assert main([*words, "-o", str(llamas / "c")]) == 1
        assert "there is something already" in capsys.readouterr().err
    assert all(torch.equal(weight, before[key]) for key, weight in weights(llamas / "c").items())
