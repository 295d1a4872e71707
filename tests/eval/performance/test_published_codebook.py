from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch

from eval.performance import published_codebook


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"BATCH": 6, "STEPS": 4, "DIM": 8, "SIZE": 7}.items():
        monkeypatch.setattr(published_codebook, name, value)


def test_the_benchmark_compares_before_it_times(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["x", "--repeats", "1", "--threads", "1", "--out", str(tmp_path)])
    published_codebook.main()
    report = json.loads((tmp_path / "published_codebook.json").read_text())
    compared = [gate for gate in report["gates"] if "unlike" in gate["name"]]
    assert len(compared) == 8 and all(gate["passed"] for gate in compared), compared
    assert [gate["at_least"] for gate in report["gates"] if " / " in gate["name"]] == [5.0, 2.0]
    assert set(report["figures"]["a step, ms"]) == {"the released class", "ours", "ours, double precision"}


def test_the_released_class_moves_by_one_sense_after_the_other_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    """One code e = 0 with N = 1, o = 0; z = 2 and 4: the sum of a sense is 3, and after each step e = o / N."""
    for name, value in {"BATCH": 1, "STEPS": 1, "DIM": 1, "SIZE": 1, "DECAY": 0.5}.items():
        monkeypatch.setattr(published_codebook, name, value)
    peer = published_codebook.Released(torch.zeros(1, 1), epsilon=0.0)
    out = peer({"a": torch.tensor([[[2.0]]]), "v": torch.tensor([[[4.0]]])})
    assert peer.ema_count.item() == 1.0 and peer.ema_sum.item() == 0.5 * 1.5 + 1.5  # 2.25
    assert peer.embedding.item() == 2.25 and peer.unused.tolist() == [0]
    assert out.commitment.item() == pytest.approx(0.75 * 4 + 0.75 * 16)
