from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from eval.performance import merging

THEIRS = """
import json, shutil, sys
*folders, target = json.loads(sys.argv[1])
shutil.copytree(folders[0], target, dirs_exist_ok=True)
print("a line of its own")
print(json.dumps({"ms": 5.0, "peak": 7, "version": "0.1"}))
"""


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """One layer of a few thousand numbers, measured in this process."""
    monkeypatch.setattr(merging, "SIZES", {"hidden_size": 32, "intermediate_size": 48, "vocab_size": 16})
    monkeypatch.setattr(merging, "MIB", 4096)
    monkeypatch.setattr(merging, "RANK", 4)
    monkeypatch.setattr(merging, "WIDTH", 24)
    monkeypatch.setattr(merging, "in_child", lambda function, *given: function(*given))


def run(monkeypatch: pytest.MonkeyPatch, out: Path, *options: str) -> dict[str, dict[str, object]]:
    monkeypatch.setattr(sys, "argv", ["merging", "--mib", "8", "--repeats", "2", "--out", str(out), *options])
    merging.main()
    report = json.loads((out / "merging.json").read_text())
    gates = {gate["name"]: gate for gate in report["gates"]}
    return {"figures": report["figures"], "gates": gates}


def test_the_benchmark_compares_before_it_times_and_says_what_did_not_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    report = run(monkeypatch, tmp_path)
    assert report["figures"]["mergekit"] is None
    assert "mergekit was not run: name its interpreter with --mergekit" in capsys.readouterr().out
    assert all(f"P4x: ours, effective weight, {count} LoRAs" in report["gates"] for count in (2, 3, 4))
    errors = {name: gate["passed"] for name, gate in report["gates"].items() if "P4x" in name or "unlike" in name}  # type: ignore[index]
    assert errors and all(errors.values())


def test_mergekit_is_run_by_its_own_interpreter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(merging, "MERGEKIT", THEIRS)
    report = run(monkeypatch, tmp_path, "--mergekit", sys.executable)
    theirs = report["figures"]["mergekit"]
    assert isinstance(theirs, dict) and theirs["version"] == "0.1" and theirs["peak"] == 7
    assert theirs["share of numbers that differ"] > 0.5
    assert "P4: time, ours / mergekit" in report["gates"]


def test_nothing_is_timed_when_the_bytes_differ(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(folders: Sequence[Path], target: Path) -> None:
        merging.load_all([folders[0]], target)

    monkeypatch.setattr(merging, "ours", wrong)
    with pytest.raises(SystemExit, match="differs from the merge in memory"):
        merging.check_equality(merging.write_models(tmp_path, 8, 0), tmp_path / "target")
