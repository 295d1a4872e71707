from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from eval.performance import training_cost


def test_the_benchmark_counts_steps_exactly_and_measures_both_sides(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"SAMPLES": 10, "BATCH": 4, "REPLAY": 0.2, "CORPUS": 200}.items():
        monkeypatch.setattr(training_cost, name, value)
    monkeypatch.setattr(training_cost, "LLAMA", {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1})
    monkeypatch.setattr(training_cost, "in_child", lambda function, *given: function(*given))
    monkeypatch.setattr("eval.performance.harness.WARM_UPS", 0)
    monkeypatch.setattr(sys, "argv", ["training_cost", "--repeats", "1", "--threads", "1", "--out", str(tmp_path)])
    training_cost.main()
    report = json.loads((tmp_path / "training_cost.json").read_text())
    gates = {gate["name"]: gate for gate in report["gates"]}
    # 10 samples in batches of 4 are three steps a phase; 2 samples of each of four senses are two steps
    assert report["figures"]["a stage: optimiser steps"] == {"fine-tuning": 6, "MERA": 8}
    assert report["figures"]["samples"] == {"connector and joint phase": 20, "realigning": 8}
    assert gates["replayed samples / samples of both phases"]["value"] == 0.4
    assert set(report["figures"]["a stage: ms"]) == {"fine-tuning", "MERA"}
