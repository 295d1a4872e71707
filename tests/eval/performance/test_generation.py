from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from eval.performance import generation
from eval.performance.harness import Report

TINY = {"vocab_size": 40, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2}


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = {**generation.SMOLLM2, **TINY, "num_attention_heads": 4, "num_key_value_heads": 2}
    monkeypatch.setattr(generation, "SMOLLM2", sizes)
    for name, value in {"RANK": 2, "PROMPT": 3, "TOKENS": 3}.items():
        monkeypatch.setattr(generation, name, value)


def test_senses_cost_nothing_per_token_and_paths_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["generation", "--repeats", "1", "--threads", "1", "--out", str(tmp_path)])
    generation.main()
    report = json.loads((tmp_path / "generation.json").read_text())
    value = {gate["name"]: gate["value"] for gate in report["gates"]}
    for what in ("operations", "bytes of parameters"):
        assert value[f"MERA, senses: 1: {what} / bare"] == value[f"MERA, senses: 6: {what} / bare"] == 1.0
        assert value[f"PathWeave, senses: 4: {what} / bare"] > value[f"PathWeave, senses: 1: {what} / bare"] > 1.0


def test_all_sides_share_the_weights_of_the_bare_model() -> None:
    built = generation.models()
    own = {id(parameter) for parameter in built[generation.BARE].parameters()}
    assert all({id(p) for p in model.model.parameters()} >= own for side, model in built.items() if "senses" in side)


def test_nothing_is_timed_when_the_tokens_differ(monkeypatch: pytest.MonkeyPatch) -> None:
    def drawn(model: Any, vectors: torch.Tensor) -> torch.Tensor:
        return torch.rand(1, 3)

    monkeypatch.setattr(generation, "generate", drawn)
    with pytest.raises(SystemExit, match="are not the bare model's"):
        generation.measure(Report("generation", "", 0, ()), generation.models(), 1)
