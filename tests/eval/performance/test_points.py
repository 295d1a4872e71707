from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from eval.performance import points


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("POINTS", 512), ("CENTRES", 16), ("NEIGHBOURS", 4), ("BATCH", 2), ("QUERY_CLOUDS", 2)):
        monkeypatch.setattr(points, name, value)


@pytest.mark.usefixtures("small")
def test_the_benchmark_compares_before_it_times_and_reports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["points", "--repeats", "2", "--out", str(tmp_path / "out" / "points.json")])
    points.main()
    report = json.loads((tmp_path / "out" / "points.json").read_text())
    assert set(points.GATES) <= {row["name"] for row in report["rows"]}
    assert report["versions"]["torch-quickfps"] and report["environment"]["load_average"]


@pytest.mark.usefixtures("small")
def test_nothing_is_timed_when_the_indices_differ(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(points, "our_batch", lambda clouds: np.zeros((len(clouds), points.CENTRES), np.int64))
    with pytest.raises(SystemExit, match="ours and numpy loop disagree"):
        points.measure(1, 0)
