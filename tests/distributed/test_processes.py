"""The cases of `cases.py`, `comet_cases.py` and `mera_cases.py`, run once in a process of their own."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FILES = [Path(__file__).parent / name for name in ("cases.py", "comet_cases.py", "mera_cases.py")]
NAMES = [name for file in FILES for name in re.findall(r"^@case\ndef (\w+)", file.read_text(), re.MULTILINE)]


@pytest.fixture(scope="session")
def outcomes() -> dict[str, str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT / "src")}
    command = [sys.executable, "-m", "tests.distributed"]
    done = subprocess.run(command, cwd=ROOT, env=environment, check=True, capture_output=True, text=True, timeout=500)
    found: dict[str, str] = json.loads(done.stdout)
    return found


def test_the_cases_are_found() -> None:
    assert len(NAMES) >= 10


@pytest.mark.parametrize("name", NAMES)
def test_two_processes(outcomes: dict[str, str], name: str) -> None:
    assert outcomes[name] == "passed", outcomes[name]
