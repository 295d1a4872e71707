"""A seeded tenth of the fault classes of trainings by default, all of them with `-m slow` (`make faults`)."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def _run(share: float, report: Path, *sets: str) -> dict[str, dict[str, float]]:
    command = [sys.executable, "-m", "tests.faults", "--share", str(share), "--report", str(report), "--sets", *sets]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT / "src")}
    subprocess.run(command, cwd=ROOT, env=environment, check=False, timeout=1800)
    summary = json.loads((report / "faults.json").read_text())
    return {entry.pop("name"): entry for entry in summary["classes"]}


def _nothing_lost(classes: dict[str, dict[str, float]]) -> None:
    for name, entry in classes.items():
        assert entry["lost"] == 0 and entry["silent"] == 0, name
        assert entry["detected"] == entry["injected"] > 0, name


@pytest.mark.parametrize("faults", ["training", "unialign", "comet", "mera"])
def test_no_fault_of_a_seeded_tenth_loses_or_changes_a_run(faults: str, tmp_path: Path) -> None:
    _nothing_lost(_run(0.1, tmp_path, faults))


@pytest.mark.slow
def test_no_fault_of_the_full_set_loses_or_changes_a_run(tmp_path: Path) -> None:
    classes = _run(1.0, tmp_path, "training")
    _nothing_lost(classes)
    assert classes["SIGKILL at a random instant"]["injected"] >= 20
    assert classes["SIGKILL inside a save"]["injected"] >= 10


@pytest.mark.slow
@pytest.mark.parametrize(("recipe", "moments"), [("unialign", 5), ("comet", 8), ("mera", 14)])
def test_no_kill_at_any_moment_loses_or_changes_a_run_of_a_recipe(recipe: str, moments: int, tmp_path: Path) -> None:
    """Stages end with the same bits and metrics: of COMET also codebook, averages, vCLUB's optimisers, V1 and the
    Fisher information; of MERA and its rivals no verdict that was on record is asked for again."""
    classes = _run(1.0, tmp_path, recipe)
    _nothing_lost(classes)
    assert len(classes) == moments and all(entry["injected"] >= 10 for entry in classes.values())
