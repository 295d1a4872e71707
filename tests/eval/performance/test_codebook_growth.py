from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from eval.performance import codebook_growth


def test_a_step_a_search_and_a_look_up_are_timed_before_growth_and_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"ROWS": 64, "DIM": 8, "SIZES": (6, 10)}.items():
        monkeypatch.setattr(codebook_growth, name, value)
    monkeypatch.setattr(sys, "argv", ["x", "--repeats", "1", "--threads", "1", "--out", str(tmp_path)])
    codebook_growth.main()
    report = json.loads((tmp_path / "codebook_growth.json").read_text())
    kept = [gate for gate in report["gates"] if "last bit" in gate["name"]]
    assert [gate["name"].partition(":")[0] for gate in kept] == ["6 to 9 codes", "10 to 15 codes"]
    assert all(gate["passed"] for gate in kept) and len(report["figures"]["6 to 9 codes, ms"]) == 5
