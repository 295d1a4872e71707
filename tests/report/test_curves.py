"""Curves and scores are drawn from logs and results alone."""

from __future__ import annotations

import warnings
from itertools import pairwise
from pathlib import Path

import numpy as np

from polysense.report import plot_curves, plot_scores, read_run, result_rows, to_png
from tests.report.runs import KEYS, write_mera_run, write_run


def test_every_stage_has_a_panel_of_losses_and_all_share_one_of_validation(tmp_path: Path) -> None:
    figure = plot_curves(read_run(write_run(tmp_path)).log)
    assert figure is not None
    assert [axes.get_title(loc="left") for axes in figure.axes] == [
        "stage-1-image", "stage-2-depth", "validation, all stages",
    ]  # fmt: skip
    assert [text.get_text() for text in figure.axes[1].texts] == ["nce text", "nce image", "total"]
    validation = figure.axes[2]
    image = next(line for line in validation.lines if len(line.get_xdata()) == 4)  # type: ignore[arg-type]
    assert list(image.get_xdata()) == [20, 40, 60, 80], "steps go on from stage to stage"  # type: ignore[arg-type]


def test_names_at_the_ends_do_not_overlap(tmp_path: Path) -> None:
    figure = plot_curves(read_run(write_run(tmp_path)).log)
    assert figure is not None
    heights = sorted(text.xyann[1] for text in figure.axes[1].texts)  # type: ignore[attr-defined]
    assert min(b - a for a, b in pairwise(heights)) > 0.07


def test_an_empty_log_gives_no_figure() -> None:
    assert plot_curves([]) is None and plot_scores([], []) is None


def test_numbers_that_are_none_are_left_out() -> None:
    lines = [{"event": "train", "stage": "a", "step": i, "loss": "nan" if i == 1 else 1.0} for i in range(3)]
    figure = plot_curves(lines)
    assert figure is not None and list(figure.axes[0].lines[0].get_xdata()) == [0, 2]  # type: ignore[arg-type]


def test_scores_stand_between_chance_and_bound(tmp_path: Path) -> None:
    rows = result_rows(read_run(write_run(tmp_path)).stages)
    figure = plot_scores(rows, ["stage-1-image", "stage-2-depth"])
    assert figure is not None
    axes = figure.axes[0]
    drawn = {round(x, 3) for line in axes.lines for x in np.asarray(line.get_xdata(), dtype=float).tolist()}
    assert {10.0, 12.5, 60.0, 80.0, 90.0, 88.0} <= drawn
    assert [label.get_text() for label in axes.get_yticklabels()] == ["image", "depth"]


def test_scores_of_a_single_sense_have_room_for_title_and_legend(tmp_path: Path) -> None:
    rows = [row for row in result_rows(read_run(write_run(tmp_path)).stages) if row.modality == "depth"]
    figure = plot_scores(rows, ["stage-1-image", "stage-2-depth"])
    assert figure is not None
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        to_png(figure)
    (legend,), axes = figure.legends, figure.axes[0]
    assert legend.get_window_extent().y1 < axes.xaxis.get_tightbbox().y0  # type: ignore[union-attr]
    assert axes.get_tightbbox().y1 <= figure.bbox.y1  # type: ignore[union-attr]


def test_equal_figures_give_equal_bytes(tmp_path: Path) -> None:
    log = read_run(write_run(tmp_path)).log
    first, second = (to_png(figure, dpi=40) for figure in (plot_curves(log), plot_curves(log)) if figure is not None)
    assert first == second and first.startswith(b"\x89PNG")


def test_phases_of_a_stage_stand_side_by_side_in_its_panel(tmp_path: Path) -> None:
    name = f"stage-2-audio-{KEYS['MERA']}"
    log = [line for line in read_run(write_mera_run(tmp_path)).log if line["stage"] == name]
    figure = plot_curves(log, {name: "stage-2-audio, MERA"})
    assert figure is not None
    axes = figure.axes[0]
    assert axes.get_title(loc="left") == "stage-2-audio, MERA"
    assert [text.get_text() for text in axes.texts] == ["warm", "joint", "realign", "total"]
    steps = [list(line.get_xdata()) for line in axes.lines[1::2]]  # type: ignore[arg-type]
    assert steps == [[1, 2, 3], [4, 5, 6], [7, 8, 9]]


def test_a_score_that_is_no_share_has_no_place_between_0_and_100(tmp_path: Path) -> None:
    run = read_run(write_mera_run(tmp_path))
    figure = plot_scores(result_rows(run.stages), [stage.name for stage in run.stages])
    assert figure is not None
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["question answering, accuracy (x)"]
