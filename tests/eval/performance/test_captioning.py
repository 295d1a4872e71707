from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from eval.performance import captioning
from polysense.metrics import cider_d


def ours_as_peer(predictions: list[str], references: list[list[str]]) -> Any:
    score = cider_d(predictions, references, tokenizer="whitespace")
    return score.mean, score.per_sample


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """A few captions, without the peer and without Java."""
    monkeypatch.setattr(captioning, "SAMPLES", 20)
    monkeypatch.setattr(captioning, "require", lambda *_: None)
    monkeypatch.setattr(captioning, "peer_score", ours_as_peer)
    monkeypatch.setattr(shutil, "which", lambda _: None)
    monkeypatch.setattr("eval.performance.harness.version", lambda _: "0")


def gates(monkeypatch: pytest.MonkeyPatch, out: Path) -> dict[str, dict[str, Any]]:
    monkeypatch.setattr(sys, "argv", ["captioning", "--repeats", "1", "--out", str(out)])
    captioning.main()
    return {gate["name"]: gate for gate in json.loads((out / "captioning.json").read_text())["gates"]}


def test_the_benchmark_compares_scores_and_reports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = gates(monkeypatch, tmp_path)
    assert found["largest difference of a sample's score"]["passed"]
    assert not found["CIDEr-D, times as fast"]["passed"]  # beside itself


def test_a_peer_that_scores_otherwise_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(captioning, "peer_score", lambda predictions, _: (0.0, np.full(len(predictions), 11.0)))
    assert not gates(monkeypatch, tmp_path)["largest difference of a sample's score"]["passed"]


def test_captions_are_drawn_by_the_seed() -> None:
    assert captioning.captions(1, 3) == captioning.captions(1, 3) != captioning.captions(2, 3)
