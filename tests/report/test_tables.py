"""The table says value, interval, chance, upper bound and share of the bound, per stage and sense."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from polysense.report import (
    Cell,
    Row,
    StageResults,
    grouped,
    headlines,
    read_run,
    result_rows,
    stage_names,
    to_html,
    to_json,
    to_markdown,
)
from polysense.report.tables import unit
from tests.hub.stages import metrics_record, result
from tests.report.runs import write_mera_run, write_run


@pytest.fixture
def rows(tmp_path: Path) -> list[Row]:
    return result_rows(read_run(write_run(tmp_path)).stages)


_STAGES = ["stage-1-image", "stage-2-depth"]


def test_a_row_follows_one_sense_over_the_stages(rows: list[Row]) -> None:
    image = rows[0]
    assert (image.modality, image.metric) == ("image", "top1")
    assert {stage: cell.value for stage, cell in image.cells.items()} == {"stage-1-image": 0.9, "stage-2-depth": 0.88}
    assert image.last == Cell(value=0.88, low=0.85, high=0.94)


def test_the_share_of_the_bound_is_the_last_value_over_it(rows: list[Row]) -> None:
    depth = next(row for row in rows if row.modality == "depth" and row.metric == "top1")
    assert depth.share_of_bound == pytest.approx(0.75)
    assert rows[0].share_of_bound is None


def test_two_data_sets_of_one_name_do_not_hide_each_other() -> None:
    stage = StageResults(number=1, name="s", metrics=metrics_record(result(value=0.5), result(value=0.7)))
    assert [(row.dataset, row.last.value) for row in result_rows([stage])] == [
        ("world stills test", 0.5),
        ("world stills test (2)", 0.7),
    ]


def test_one_task_on_several_senses_is_one_group(rows: list[Row]) -> None:
    groups = {title: [row.modality for row in group] for title, group in grouped(rows).items()}
    assert groups == {
        "zero-shot classification, top1 on world stills test": ["image", "depth"],
        "zero-shot classification, top5 on world stills test": ["depth"],
        "retrieval sense to text, R@1 on world stills test": ["depth"],
    }
    assert [row.metric for row in headlines(rows)] == ["top1", "top1", "R@1"]


def test_markdown_shows_percent_with_intervals_and_dashes(rows: list[Row]) -> None:
    table = to_markdown(rows, _STAGES)
    assert "| sense | chance | stage-1-image | stage-2-depth | upper bound | share of the bound | items |" in table
    assert "| depth | 10.0 | - | 60.0 [50.0, 70.0] | 80.0 | 75.0 | 300 |" in table
    assert "| depth | 50.0 | - | 80.0 | 87.5 | 91.4 | 300 |" in table, "no interval, no brackets"


def test_html_has_a_bar_per_share_and_escapes_what_it_is_given(rows: list[Row]) -> None:
    page = to_html(rows, _STAGES)
    assert page.count("class=bar") == 5 and "width:60.0%" in page and "left:10.0%" in page
    row = Row(task="<b>", modality="x", dataset="d", metric="median_rank", cells={"s": Cell(value=3.0)})
    assert "&lt;b&gt;, median_rank" in to_html([row], ["s"]) and "class=bar" not in to_html([row], ["s"])


def test_json_holds_every_figure(rows: list[Row]) -> None:
    data = json.loads(to_json(rows))
    assert len(data) == len(rows) and data[1]["cells"]["stage-2-depth"]["high"] == 0.7
    assert data[1]["share_of_bound"] == pytest.approx(0.75)


def test_stages_without_measurements_have_no_column(rows: list[Row], tmp_path: Path) -> None:
    stages = read_run(tmp_path).stages
    assert stage_names(rows, stages) == _STAGES
    assert stage_names([row for row in rows if row.modality == "depth"], stages) == ["stage-2-depth"]


def test_cider_is_shown_times_100_without_a_bar_and_unbounded_rows_without_bounds(tmp_path: Path) -> None:
    stages = read_run(write_mera_run(tmp_path / "mera")).chains[0]
    rows = result_rows(stages)
    names = stage_names(rows, stages)
    table = to_markdown(rows, names)
    assert "**captioning, CIDEr-D (ptb)**" in table, "a data set that is called after its sense is not named"
    assert "| sense | chance | stage-1-image | stage-2-audio | stage-3-point_cloud | items |" in table
    assert "| image | 5.0 | 80.0 | 60.0 | 40.0 | 300 |" in table
    page = to_html(rows, names)
    assert page.count("class=bar") == 6, "of accuracies alone" and "width:120.0%" not in page
    assert [unit(metric) for metric in ("accuracy (x)", "CIDEr-D (ptb)", "median_rank")] == ["%", "x 100", ""]
