"""What MERA's stages still know: by method, stage and sense, and relative to each sense alone; computed by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from polysense.report import Retention, StageResults, final_stage, plot_retention, read_run, retention_tables
from polysense.report.retention import method_name, table_html
from tests.report.runs import KEYS, mera_method, write_mera_run, write_run


@pytest.fixture
def run(tmp_path: Path) -> Any:
    return read_run(write_mera_run(tmp_path))


def rows(table: Any) -> list[str]:
    return [" | ".join(row) for row in table.rows]


def test_stages_stand_below_one_another_and_senses_beside_one_another(run: Any) -> None:
    captions, answers, _ = retention_tables(run)
    assert captions.title == "captioning, CIDEr-D (ptb), x 100" and answers.title == (
        "question answering, accuracy (x), %"
    )
    assert list(captions.head) == ["stage", "method", "image", "audio", "point cloud"]
    assert rows(captions) == [
        "chance |  | 5.0 | 5.0 | 5.0",
        "1 image | all | 80.0 | - | -",
        "2 audio | MERA 10 % | 60.0 | 40.0 | -",
        "2 audio | fine-tuning | 20.0 | 40.0 | -",
        "3 point cloud | MERA 10 % | 40.0 | 30.0 | 120.0",
        "3 point cloud | fine-tuning | 8.0 | 10.0 | 130.0",
        "alone |  | 80.0 | 40.0 | -",
    ]


def test_backward_relative_gains_are_means_over_earlier_senses_and_tasks(run: Any) -> None:
    # MERA: (.6/.8 + .5/.5) / 2; then the mean of (.4/.8 + .5/.5) / 2 and (.3/.4 + .6/.6) / 2
    # fine-tuning: (.2/.8 + .25/.5) / 2; then the mean of (.08/.8 + .1/.5) / 2 and (.1/.4 + .3/.6) / 2
    assert rows(retention_tables(run)[2]) == [
        "2 audio | MERA 10 % | 87.5", "2 audio | fine-tuning | 37.5",
        "3 point cloud | MERA 10 % | 81.2", "3 point cloud | fine-tuning | 26.2",
        "mean, the first as 100 | MERA 10 % | 89.6", "mean, the first as 100 | fine-tuning | 54.6",
    ]  # fmt: skip


def test_a_gain_without_its_sense_alone_is_not_known(run: Any, tmp_path: Path) -> None:
    alone = tmp_path / "stages" / f"stage-1-audio-{KEYS['alone']}"
    (alone / "stage.json").unlink()
    gains = rows(retention_tables(read_run(tmp_path))[2])
    assert gains[0].endswith("87.5") and all(row.endswith("| -") for row in gains[2:])


def test_a_gain_over_a_score_of_zero_or_of_another_task_is_not_known(run: Any, tmp_path: Path) -> None:
    metrics = tmp_path / "stages" / f"stage-1-image-{KEYS['image']}" / "metrics.json"
    record = json.loads(metrics.read_text())
    record["results"][0]["value"] = 0.0
    metrics.write_text(json.dumps(record))
    kept = Retention(read_run(tmp_path))
    chain = kept.methods["MERA 10 %"]
    assert kept.backward_gain(chain, 1) == 1.0 and kept.backward_gain(chain, 2) is None
    metrics.write_text(json.dumps({**record, "results": record["results"][1:]}))
    kept = Retention(read_run(tmp_path))
    assert kept.backward_gain(kept.methods["MERA 10 %"], 2) is None


def test_several_data_sets_of_one_task_count_alike() -> None:
    results = [{"task": "captioning", "metric": "m", "modality": "image", "dataset": name, "value": value}
               for name, value in (("a", 0.2), ("b", 0.6))]  # fmt: skip
    stage = StageResults(number=1, name="s", metrics={"results": results})
    assert Retention.scores(Retention.__new__(Retention), stage, "image") == {"captioning": pytest.approx(0.4)}


@pytest.mark.parametrize(
    ("method", "name"),
    [
        (mera_method(realigned=True), "MERA 10 %"),
        (mera_method(realigned=False), "fine-tuning"),
        (mera_method(realigned=False, replay=0.01), "replay 1 %"),
        (mera_method(realigned=False, merge="running_average"), "merging"),
        (mera_method(realigned=False, merge="ties"), "merging by ties"),
        (mera_method(realigned=True, merge="ties"), "merging by ties and realigning"),
        (mera_method(realigned=False, merge={"name": "ties", "density": 0.3}), "merging by ties (density 0.3)"),
        (mera_method(realigned=True, merge=None), "fine-tuning and realigning"),
        (mera_method(realigned=False, method={"name": "ewc", "share": 0.1}), "EWC"),
        (mera_method(realigned=True, method={"name": "pathweave"}), "PathWeave and realigning"),
        (mera_method(realigned=False, method={"name": "mine"}), "mine"),
    ],
)
def test_a_method_is_called_what_the_paper_calls_it(method: dict[str, Any], name: str) -> None:
    stage = StageResults(number=2, name="stage-2-audio", record={"hyperparameters": {"method": method}})
    assert method_name(stage) == name


def test_methods_of_one_name_are_told_apart_by_their_keys(run: Any, tmp_path: Path) -> None:
    for path in (tmp_path / "stages").glob(f"*-{KEYS['fine-tuning']}/stage.json"):
        record = json.loads(path.read_text())
        record["hyperparameters"]["method"] = mera_method(realigned=True)
        path.write_text(json.dumps(record))
    names = [f"MERA 10 % ({key})" for key in (KEYS["MERA"], KEYS["fine-tuning"])]
    assert sorted(Retention(read_run(tmp_path)).methods) == names


def test_the_final_stage_is_meras(run: Any) -> None:
    assert final_stage(run).name == f"stage-3-point_cloud-{KEYS['MERA']}"


def test_one_stage_is_a_run_without_gains(run: Any, tmp_path: Path) -> None:
    for path in (tmp_path / "stages").glob("stage-[23]-*/stage.json"):
        path.unlink()
    captions, answers = retention_tables(read_run(tmp_path))
    assert list(captions.head[2:]) == ["audio", "image"] and rows(captions)[1:] == ["alone |  | 40.0 | 80.0"]
    assert answers.title.startswith("question answering")
    assert plot_retention(read_run(tmp_path)) is None


def test_other_systems_have_none(tmp_path: Path) -> None:
    other = read_run(write_run(tmp_path))
    assert retention_tables(other) == [] and plot_retention(other) is None


def test_the_plot_has_a_panel_per_metric_and_one_of_the_gains(run: Any) -> None:
    figure = plot_retention(run)
    assert figure is not None
    assert [axes.get_title(loc="left") for axes in figure.axes] == [
        "captioning", "question answering", "backward relative gain",
    ]  # fmt: skip
    mera, tuned = figure.axes[2].lines[:2]
    assert list(mera.get_ydata()) == pytest.approx([100, 87.5, 81.25])  # type: ignore[arg-type]
    assert list(tuned.get_ydata()) == pytest.approx([100, 37.5, 26.25])  # type: ignore[arg-type]
    assert mera.get_linestyle() == "-" and tuned.get_linestyle() == "--"
    assert [text.get_text() for text in figure.legends[0].texts] == ["MERA 10 %", "fine-tuning", "chance"]
    image = next(line for line in figure.axes[0].lines if len(line.get_xdata()) == 3)  # type: ignore[arg-type]
    assert list(image.get_ydata()) == pytest.approx([80, 60, 40])  # type: ignore[arg-type]


def test_a_table_in_html_escapes_what_it_is_given(run: Any) -> None:
    page = table_html(retention_tables(run)[0])
    assert page.startswith("<h3>captioning") and "<td>120.0</td>" in page
