"""Where figures come from."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from polysense.recipes import provenance
from polysense.version import __version__


def test_the_command_holds_no_path_of_this_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["/usr/bin/polysense", "train", "--output", str(tmp_path / "runs/a b")])
    assert provenance.command() == "polysense train --output 'runs/a b'"


def test_the_command_holds_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JUDGE_TOKEN", "swordfish-7")
    address = "https://me:open-sesame@mirror.example/data"
    monkeypatch.setattr(sys, "argv", ["polysense", "train", f"data.root={address}", "note=swordfish-7", "seed=1"])
    assert provenance.command() == "polysense train 'data.root=[removed]mirror.example/data' 'note=[removed]' seed=1"


@pytest.mark.parametrize(
    ("program", "called"),
    [
        ("eval/x.py", "python eval/x.py"),
        ("{}/eval/x.py", "python eval/x.py"),
        ("/else/where/x.py", "python x.py"),
        (f"{provenance._CHECKOUT}/eval/x.py", "python eval/x.py"),
    ],
)
def test_a_script_can_be_called_as_the_command_says(
    program: str, called: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [program.format(tmp_path), "--beyond"])
    assert provenance.command() == f"{called} --beyond"


def test_the_commit_is_that_of_the_checkout() -> None:
    assert re.fullmatch(r"([0-9a-f]{12}\+?)?", provenance.commit())


def test_a_checkout_of_another_project_is_not_taken_for_ours(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(provenance, "_CHECKOUT", tmp_path / "lib")
    monkeypatch.setattr(provenance, "_git", lambda *_: "0123456789ab")
    (tmp_path / ".git").mkdir()
    assert provenance.commit() == ""


@pytest.mark.parametrize("error", [subprocess.TimeoutExpired("git", 20), FileNotFoundError("git")])
def test_a_git_that_does_not_answer_costs_the_commit_alone(
    error: Exception, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def fail(*_: object) -> str:
        raise error

    (tmp_path / ".git").mkdir()
    monkeypatch.setattr(provenance, "_CHECKOUT", tmp_path)
    monkeypatch.setattr(provenance, "_git", fail)
    assert provenance.commit() == ""


def test_versions_name_every_package() -> None:
    found = provenance.versions()
    assert {"python", "torch", "transformers", "datasets"} <= found.keys()
    assert found["polysense"] == __version__  # installed or run from a checkout
    assert found["python"].startswith(f"{sys.version_info.major}.{sys.version_info.minor}")
    assert provenance.machine().keys() == {"cpus", "load_average"}


def test_a_wall_time_stands_beside_the_load(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.monotonic", lambda: 130.4)
    monkeypatch.setattr("os.getloadavg", lambda: (2.0, 1.234, 0.5))
    assert provenance.wall_time(5.0) == "2 min 5 s (load averages 2.00, 1.23, 0.50)"
