from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from torch.autograd.profiler_util import Interval

from eval.performance import comet_step
from eval.performance.comet_step import REST, by_part

BACKWARD = "autograd::engine::evaluate_function: AddmmBackward0"


def event(name: str, start: int, end: int, parent: Any = None, number: int = -1) -> Any:
    return SimpleNamespace(name=name, time_range=Interval(start, end), cpu_parent=parent, sequence_nr=number)


def test_time_is_that_of_the_innermost_part_and_the_backward_pass_follows_the_forward_one() -> None:
    """Microseconds: a step of 10,000, in it an encoder of 2,000 with 500 of a codebook, and 3,000 of the way back."""
    step = event(f"part: {REST}", 0, 10_000)
    encoder = event("part: encoders", 1_000, 3_000, step)
    codebook = event("part: codebook", 1_500, 2_000, encoder)
    before = event("aten::relu", 100, 200, step, 7)
    product = event("aten::addmm", 2_500, 2_800, encoder, 7)
    back = event(BACKWARD, 5_000, 8_000, step, 7)
    within = event(BACKWARD, 5_500, 6_000, back, 7)
    undoing = event("AddmmBackward0", 5_100, 7_900, back, 7)  # has the number too, and is in no part
    unknown = event(BACKWARD, 8_000, 9_000, step, 99)
    found = by_part([step, before, encoder, codebook, product, back, within, undoing, unknown])
    assert found["encoders"] == 1.5 + 3.0 and found["codebook"] == 0.5
    assert found[REST] == 10 - 2 - 3 and sum(found.values()) == 10


def test_every_part_of_a_step_is_met_and_the_shares_make_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"BATCH": 6, "TIME": 4, "WARM_UPS": 1}.items():
        monkeypatch.setattr(comet_step, name, value)
    monkeypatch.setattr(sys, "argv", ["x", "--repeats", "1", "--threads", "1", "--out", str(tmp_path)])
    comet_step.main()
    report = json.loads((tmp_path / "comet_step.json").read_text())
    shares = {name.partition(":")[0]: each for name, each in report["figures"].items() if "share" in name}
    assert set(shares) == {"world", "world with vCLUB", "paper"}
    for name, found in shares.items():
        assert sum(found.values()) == pytest.approx(1, abs=1e-6)
        assert {part for part, share in found.items() if share <= 0} == ({"vCLUB"} if name == "world" else set())
    bounded = {gate["name"] for gate in report["gates"] if gate["at_most"] is not None}
    assert "paper: share of vCLUB" in bounded and "world: share of encoders" not in bounded
