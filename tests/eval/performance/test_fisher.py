from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from eval.performance import fisher
from eval.performance.harness import Report


def test_the_benchmark_compares_before_it_times(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, size in {
        "SAMPLES": 8,
        "TOKENS": 3,
        "MLP_WIDTH": 6,
        "WIDTH": 8,
        "HEADS": 2,
        "RANK": 2,
        "BATCH": 4,
    }.items():
        monkeypatch.setattr(fisher, name, size)
    monkeypatch.setattr(fisher, "CHUNK", 2)
    monkeypatch.setattr(sys, "argv", ["fisher", "--repeats", "1", "--threads", "1", "--out", str(tmp_path)])
    fisher.main()
    report = json.loads((tmp_path / "fisher.json").read_text())
    gates = {gate["name"]: gate for gate in report["gates"]}
    for task in ("MLP", "LoRA factors"):
        assert gates[f"{task}: largest relative error"]["passed"]
        assert 0 < report["figures"][f"{task}: squared gradient of batches of 2"]["share of the sum"] < 1


def test_a_wrong_result_stops_the_benchmark(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fisher, "SAMPLES", 4)
    monkeypatch.setattr(fisher, "MLP_WIDTH", 6)
    task = fisher.mlp_task()
    monkeypatch.setattr(task, "ours", lambda: {name: 2 * each for name, each in task.loop().items()})
    with pytest.raises(SystemExit, match="MLP: ours or vmap disagrees"):
        fisher.measure(Report("fisher", "", 0, ()), "MLP", task, (1.0, 1.0), 1)
