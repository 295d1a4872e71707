"""What was measured, for the README and in full, made of reports in a folder of their own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from eval import readme


@pytest.fixture
def reports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(readme, "ROOT", tmp_path)
    monkeypatch.setattr(readme, "REPORTS", tmp_path / "reports")
    return tmp_path / "reports"


def put(path: Path, report: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(report), encoding="utf-8")


def faults(path: Path, lost: int = 0) -> None:
    row = {"name": "kill", "injected": 9, "detected": 9, "lost": lost, "silent": 0}
    put(path, {"command": "python eval/faults.py", "classes": [row]})


def test_without_reports_there_are_no_figures(reports: Path) -> None:
    assert readme.figures().startswith("Every claim, gate and fault: [docs/measured.md](docs/measured.md).")
    assert len(readme.figures().splitlines()) == 1 and "[docs/findings.md](docs/findings.md)" in readme.figures()


def test_evidence_is_in_percent_with_its_interval_and_verdicts(reports: Path) -> None:
    joint = {"seeds": [0, 1], "mean": 0.5, "low": 0.45, "high": 0.55, "share_of_bound": 0.625}
    test = {"chance": 0.0125, "joint": joint, "incremental": {"seeds": [0], "mean": 0.4}}
    claims = {
        "UA9": {"measure": "with minus without", "mean": 0.03, "values": [0.02, 0.04], "verdict": "reproduced"},
        "UA15": {"measure": "FLOPs", "values": [1.0, 1.0], "verdict": "reproduced"},
    }
    senses = {"depth": {"bound": {"seeds": [0, 1], "mean": 0.8}, "test": test}}
    report = {"command": "run", "seeds": [0, 1], "senses": senses, "claims": claims}
    put(reports / "unialign-world.json", report)
    lines = readme.figures().splitlines()
    assert lines[0].startswith("UniAlign on the embedded world, top-1 in percent") and "(`run`)" in lines[0]
    assert lines[2] == (
        "| sense | chance | one phase (2) [90 %] | one by one (1) | supervised (2) | share of supervised |"
    )
    assert "| depth | 1.2 | 50.0 [45.0, 55.0] | 40.0 | 80.0 | 62.5 |" in lines
    assert lines[-3] == "Of 2 claims: 2 reproduced (UA9, UA15)."
    full = readme.details().splitlines()
    assert "| UA9 | with minus without | 0.030 | reproduced |" in full
    assert "| UA15 | FLOPs | 1.000 | reproduced |" in full  # exact, so without a mean
    senses["depth"] = {"bound": {"seeds": [], "mean": None}, "test": {"chance": 0.0125}}
    put(reports / "unialign-world.json", report)
    assert "| depth | 1.2 | - | - | - | - |" in readme.figures().splitlines()
    put(reports / "unialign-world.json", {**report, "senses": {}})
    assert "| sense | chance |" not in readme.figures()


def test_what_a_growing_model_keeps_is_shown_by_method_and_order(reports: Path) -> None:
    row = {"seeds": [0, 1, 2], "mean": {"mean": 0.985}, "deviation": {"mean": 0.01}, "forward": [1.0, 0.8, 0.9]}
    claims = {
        "ME2": {"measure": "MERA minus best", "mean": 0.1, "values": [0.1, 0.1], "verdict": "reproduced"},
        "ME20": {"measure": "frozen minus not", "values": [], "verdict": "not measured", "reason": "not run"},
    }
    gains = {"sequential": {"mera-10": row, "mera-10-ties": row}, "reverse": {"mera-10": row}}
    labels = {"mera-10": "MERA (10 %)", "mera-10-ties": "TIES"}
    put(reports / "mera-world.json",
        {"command": "run", "seeds": [0, 1, 2], "gains": gains, "methods": labels, "claims": claims})  # fmt: skip
    lines = readme.figures().splitlines()
    assert "as many seeds as stand beside" in lines[0] and "`run`)" in lines[0]
    assert lines[4:6] == [
        "| MERA (10 %) (3) | 98.5 | 1.0 | 85.0 | 98.5 | 1.0 | 85.0 |", "| TIES (3) | 98.5 | 1.0 | 85.0 | - | - | - |"
    ]  # fmt: skip
    assert lines[-3] == "Of 2 claims: 1 reproduced (ME2); 1 not measured."
    full = readme.details().splitlines()
    assert "| ME2 | MERA minus best | 0.100 | reproduced |" in full
    assert "| ME20 | frozen minus not | - | not measured |" in full


def test_what_codes_keep_and_carry_over_is_shown_in_the_papers_first_order(reports: Path) -> None:
    memory = {"V-T": {"plasticity": {"mean": 0.4}, "retention": {"mean": 0.85}, "chance": 0.1}}
    claims = {"CO1": {"measure": "with minus without", "mean": 0.1, "values": [0.1], "verdict": "undecided"}}
    report = {
        "command": "run", "seeds": [0, 1], "main": ["vt", "at"], "orders": {"vt": ["video-text", "audio-text"]},
        "memory": {"vt": {"dcid": memory, "comet-no-ewc": memory}, "at": {}}, "methods": {"dcid": "DCID"},
        "rows": {"compared": ["dcid", "turn"]}, "claims": claims,
        "fresh": {"claims": {"CO6": {"measure": "on others", "mean": 0.2, "values": [0.2], "verdict": "reproduced"}}},
        "scores": {"vt": {"dcid": {"seeds": [0, 1], "stages": [{}, {"transfer above chance": {"mean": 0.3}}]}}},
    }  # fmt: skip
    put(reports / "comet-world.json", report)
    lines = readme.figures().splitlines()
    assert "order video-text, audio-text" in lines[0] and "(`run`)" in lines[0]
    assert lines[4:6] == ["| DCID (2) | 40.0 | 85.0 | - | - | - | 30.0 |", "| chance | 10.0 |  | - |  | - |  |"]
    full = readme.details().splitlines()
    assert "| CO1 | with minus without | 0.100 | undecided |" in full
    assert full.index("| CO6 | on others | 0.200 | reproduced |") > full.index(
        "On worlds of other seeds, from which nothing was chosen:"
    )


def test_a_missed_gate_says_so_and_a_measure_without_one_is_shown_beside(reports: Path) -> None:
    gates = [
        {"name": "speed", "value": 1.5, "at_least": 1.2, "at_most": None, "passed": True},
        {"name": "bytes", "value": 3.0, "at_least": 1.0, "at_most": 2.0, "passed": False},
        {"name": "free", "value": 7.0, "at_least": None, "at_most": None, "passed": True},
    ]
    put(reports / "performance/senses.json", {"command": "bench", "gates": gates})
    lines = readme.details().splitlines()
    assert "`bench`:" in lines
    first = lines.index("| speed | 1.5 | ≥ 1.2 | yes |")
    assert lines[first + 1 : first + 3] == ["| bytes | 3 | ≥ 1 and ≤ 2 | no |", "| free | 7 |  |  |"]
    assert readme.figures().splitlines()[0] == (
        "Of 2 gates of the benchmarks (`eval/performance`) 1 are met. Missed are: senses: bytes, 3 (≥ 1 and ≤ 2)."
    )


def test_the_check_notices_a_report_that_changed_and_writes_nothing(reports: Path, tmp_path: Path) -> None:
    page = tmp_path / "README.md"
    page.write_text(
        "before\n<!-- generated: python eval/readme.py -->\n<!-- /generated -->\nafter\n", encoding="utf-8"
    )
    faults(reports / "faults/faults.json")
    empty = page.read_text(encoding="utf-8")
    assert readme.main(["--check"]) == 1 and page.read_text(encoding="utf-8") == empty
    assert readme.main([]) == 0 and readme.main(["--check"]) == 0
    written = page.read_text(encoding="utf-8")
    assert "Of 9 faults injected" in written and "9 were detected; 0 lost" in written
    assert "| kill | 9 | 9 | 0 | 0 |" in (tmp_path / "docs/measured.md").read_text(encoding="utf-8")
    assert written.startswith("before\n") and written.endswith("after\n")
    faults(reports / "faults/faults.json", lost=1)
    assert readme.main(["--check"]) == 1
