from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

pytest.importorskip("faiss")
pytest.importorskip("vector_quantize_pytorch")

from eval.performance import codebook


def test_the_benchmark_compares_before_it_times(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"ROWS": 64, "DIM": 8, "SIZES": (5, 9)}.items():
        monkeypatch.setattr(codebook, name, value)
    monkeypatch.setattr(sys, "argv", ["codebook", "--repeats", "1", "--threads", "1", "--out", str(tmp_path)])
    codebook.main()
    gates = json.loads((tmp_path / "codebook.json").read_text())["gates"]
    assert all(gate["passed"] for gate in gates if "unlike" in gate["name"])
    assert sum("ours / faiss" in gate["name"] for gate in gates) == 2
