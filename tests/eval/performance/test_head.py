from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from eval.performance import head
from eval.performance.harness import Report


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """A few words and tokens, measured in this process."""
    for name, value in {"TOKENS": 24, "WIDTH": 16, "LAYERS": 1, "HEADS": 2, "VOCABULARIES": (40,), "TEXT": 6}.items():
        monkeypatch.setattr(head, name, value)
    monkeypatch.setattr(head, "LABELLED", 3)
    monkeypatch.setattr(head, "VISION", {**head.VISION, "hidden_size": 16, "image_size": 28})
    monkeypatch.setattr(head, "in_child", lambda function, *given: function(*given))


def test_the_benchmark_compares_before_it_times(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["head", "--repeats", "1", "--threads", "1", "--out", str(tmp_path)])
    head.main()
    report = json.loads((tmp_path / "head.json").read_text())
    gates = {gate["name"]: gate for gate in report["gates"]}
    differences = [gate for name, gate in gates.items() if "difference" in name]
    assert len(differences) == 8 and all(gate["passed"] for gate in differences)
    assert gates["head, 40 words, 6% labelled: transformers / ours"]["at_least"] == 8
    bytes_of = report["figures"]["training step, 40 words: bytes"]
    assert bytes_of["transformers"]["weights"] == bytes_of["ours"]["weights"] > 0


def test_nothing_is_timed_when_the_losses_differ(monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(model: nn.Module, hidden: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        return torch.rand(()), torch.ones_like(hidden)

    monkeypatch.setattr(head, "head_step", wrong)
    with pytest.raises(SystemExit, match="loss and gradient differ by"):
        head.measure_head(Report("head", "", 0, ()), 40, 1)


def test_labels_are_the_share_that_was_asked_for() -> None:
    labels = head.labels_of(0.5, 40)
    assert int((labels != head.IGNORED).sum()) == 12 and labels[0, 0] == head.IGNORED
