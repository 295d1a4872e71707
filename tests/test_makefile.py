"""What the Makefile would do, by `make -n`: nothing is installed."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

MAKEFILE = Path(__file__).parents[1] / "Makefile"

pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="there is no make")


def planned(folder: Path, *variables: str) -> str:
    command = ["make", "-n", "-f", str(MAKEFILE), "install", f"VENV={folder}", *variables]
    # of a make that runs these tests, whose variables are not meant here
    inherited = ("MAKEFLAGS", "MFLAGS", "MAKEOVERRIDES", "TORCH", "TORCH_INDEX_URL")
    environment = {name: value for name, value in os.environ.items() if name not in inherited}
    return subprocess.run(
        command, capture_output=True, text=True, check=True, cwd=MAKEFILE.parent, env=environment
    ).stdout


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """An environment with the CPU's build of torch."""
    (tmp_path / "bin").mkdir()
    for name in ("bin/python", ".torch-cpu", ".installed"):
        (tmp_path / name).touch()
    return tmp_path


def test_what_is_installed_stays(installed: Path) -> None:
    assert "pip" not in planned(installed) and "pip" not in planned(installed, "TORCH=cpu")


def test_another_build_of_torch_takes_the_place_of_the_one_that_is_there(installed: Path) -> None:
    steps = planned(installed, "TORCH=cuda")
    assert 0 < steps.index("pip uninstall") < steps.index("rm ") < steps.index("pip install") < steps.index("touch")
    assert "nvidia" not in steps and "--editable" in steps


def test_the_build_that_is_there_is_the_default(installed: Path) -> None:
    (installed / ".torch-cpu").rename(installed / ".torch-cuda")
    assert "pip" not in planned(installed)
    assert "nvidia" in planned(installed, "TORCH=cpu")


def test_a_fresh_environment_is_for_the_cpu(tmp_path: Path) -> None:
    steps = planned(tmp_path / "new")
    assert "-m venv" in steps and "nvidia" in steps and f"touch {tmp_path}/new/.torch-cpu" in steps
