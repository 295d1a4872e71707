from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from eval.performance import judge
from polysense.metrics.judging import Answer, Judgement, Patience


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(judge, "ANSWERS", 30)
    monkeypatch.setattr(judge, "SECONDS", 0.005)
    monkeypatch.setattr(sys, "argv", ["judge", "--repeats", "1"])


def test_the_benchmark_compares_before_it_times_and_runs_with_faults(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(judge, "_PATIENCE", Patience(timeout=0.5, first_delay=0.01, longest_delay=0.05))
    monkeypatch.setattr(sys, "argv", [*sys.argv, "--out", str(tmp_path)])
    judge.main()
    report = json.loads((tmp_path / "judge.json").read_text())
    gates = {gate["name"]: gate for gate in report["gates"]}
    assert {"10 in flight, times as fast", "64 in flight, times as fast"} <= set(gates)
    assert gates["calls of a rerun"]["passed"] and gates["failures turned into verdicts"]["passed"]
    assert gates["coverage with 30% of the requests failing"]["value"] > 0.8
    assert report["figures"]["with 30% of the requests failing"]["retries"] > 0


def test_nothing_is_timed_when_the_verdicts_differ(monkeypatch: pytest.MonkeyPatch) -> None:
    def deaf(url: str, questions: list[Answer], many: int) -> Judgement:
        return Judgement(judge="deaf", verdicts=(None,) * len(questions))

    monkeypatch.setattr(judge, "in_flight", deaf)
    with pytest.raises(SystemExit, match="verdicts at 10 in flight are not those of one after the other"):
        judge.main()
