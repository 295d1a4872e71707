"""The tables of a run fit a terminal: headline figures, and intervals for the last stage alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from polysense.cli.results import show_results, show_run
from polysense.report import StageResults, read_run
from tests.hub.stages import metrics_record, result
from tests.report.runs import write_mera_run, write_run


@pytest.fixture(autouse=True)
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "120")


def stage(number: int, name: str, *results: dict[str, object]) -> StageResults:
    return StageResults(number=number, name=name, metrics=metrics_record(*results) if results else {})


def test_a_sense_has_one_line_over_all_stages(capsys: pytest.CaptureFixture[str]) -> None:
    image = result(modality="image", value=0.5, low=0.4, high=0.6, upper_bound=None, count=None)
    cloud = result(modality="point_cloud", value=0.7, low=0.65, high=0.75, count=1200)
    show_results([stage(1, "stage-1-image", image), stage(2, "stage-2-point_cloud", {**image, "value": 0.45}, cloud)])
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines() if line.strip()]
    assert lines[0] == "zero-shot classification, top1 on world stills test, %"
    assert lines[1] == "sense chance 1-image 2-point_cloud bound % of it items"
    assert lines[3] == "image 12.5 50.0 45.0 [40.0, 60.0] - - -"
    assert lines[4] == "point cloud 12.5 - 70.0 [65.0, 75.0] 87.5 80.0 1,200"


def test_every_task_has_its_own_table(capsys: pytest.CaptureFixture[str]) -> None:
    found = result(task="retrieval depth to text", metric="R@1", value=0.25)
    show_results([stage(1, "stage-1-depth", result(value=0.5), found, {**found, "metric": "R@5", "value": 0.875})])
    out = capsys.readouterr().out
    assert out.count("% of it") == 2 and "retrieval sense to text, R@1 on world stills test, %" in out
    assert "R@5" not in out


def test_a_run_that_was_not_evaluated_shows_no_table(capsys: pytest.CaptureFixture[str]) -> None:
    show_results([stage(1, "stage-1-depth")])
    assert capsys.readouterr().out == ""


def test_a_run_of_mera_shows_what_its_stages_still_know(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    show_run(read_run(write_mera_run(tmp_path)))
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert "captioning, CIDEr-D (ptb), x 100" in lines and "2 audio fine-tuning 20.0 40.0 -" in lines
    assert "3 point cloud MERA 10 % 81.2" in lines


def test_any_other_run_shows_its_scores(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    show_run(read_run(write_run(tmp_path)))
    assert "zero-shot classification, top1" in capsys.readouterr().out


def test_figures_without_bounds_have_no_columns_of_them_and_cider_no_percent(
    capsys: pytest.CaptureFixture[str],
) -> None:
    said = result(metric="CIDEr-D (ptb)", task="captioning", dataset="depth", value=1.5, low=1.4, high=1.6,
                  upper_bound=None)  # fmt: skip
    show_results([stage(1, "stage-1-depth", said)])
    out = capsys.readouterr().out
    assert "captioning, CIDEr-D (ptb), x 100" in out and "150.0 [140.0, 160.0]" in out and "bound" not in out
