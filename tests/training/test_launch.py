"""The entry file, started as its users start it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.recipes.fixtures import Parts, stages

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
@pytest.mark.parametrize("processes", [1, 2])
def test_accelerate_launches_the_entry_file(processes: int, parts: Parts, tmp_path: Path) -> None:
    shorter = ["stages=[{name: two, trains: [depth, audio]}]", "bounds=1"]
    # on the CPU accelerate's own launcher starts one process, whatever number it is given
    one, several = (
        ["accelerate.commands.launch", "--cpu"],
        ["torch.distributed.run", "--standalone", "--nproc_per_node=2"],
    )
    launch = [sys.executable, "-m", *(one if processes == 1 else several)]
    recipe = [str(ROOT / "training/unialign/train.py"), "--config", "world", "--output", str(tmp_path)]
    environment = {
        **os.environ,
        "ACCELERATE_USE_CPU": "true",
        "PYTHONPATH": str(ROOT / "src"),
        "OMP_NUM_THREADS": "1",
        "MKL_NUM_THREADS": "1",
    }
    done = subprocess.run(
        [*launch, *recipe, *parts.overrides(steps=2), *shorter],
        cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert [folder.name for folder in stages(tmp_path)] == ["stage-1-anchor", "stage-2-two"]
    log = [json.loads(line) for line in (tmp_path / "training/stage-2-two/log.jsonl").read_text().splitlines()]
    assert log[0]["world"] == processes and [line["step"] for line in log if line["event"] == "train"] == [1, 2]
    assert sorted(path.name for path in (tmp_path / "bounds").iterdir()) == ["audio.json", "depth.json"]
