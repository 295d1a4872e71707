"""COMET's averages by hand: what they are of, what is kept and learned, and what tables are made of."""

from __future__ import annotations

import pytest

from polysense.recipes.cells import Cell
from polysense.recipes.comet_config import CometRecipe
from polysense.recipes.comet_downstream import DownstreamSettings
from polysense.recipes.comet_scores import (
    COLUMNS,
    MEASURES,
    PAIRS,
    TRANSFERS,
    chance_of,
    figure_table,
    mask_columns,
    memory_table,
    recall_columns,
    references,
    score_tables,
    scores_by_seed,
    stage_scores,
    transfer_columns,
)
from polysense.recipes.comet_variants import FIRST
from polysense.recipes.config import read_config
from tests.recipes.comet_cells import cells, raw, run, stage


def test_columns_are_those_of_the_papers_tables() -> None:
    assert list(transfer_columns().values()) == [
        "classification V → A", "classification A → V", "localisation V → A", "localisation A → V",
        "new combinations V → A", "new combinations A → V",
    ]  # fmt: skip
    assert list(recall_columns("V-T").values()) == [
        "T → V R@1", "T → V R@5", "T → V R@10", "V → T R@1", "V → T R@5", "V → T R@10",
    ]  # fmt: skip
    assert list(mask_columns().values()) == ["J", "F", "J&F"]


def test_every_figure_is_one_that_the_shipped_evaluation_makes() -> None:
    evaluation = read_config(CometRecipe, "comet", "world-long").evaluation
    assert {name.split(" | ")[1] for pair in PAIRS for name in recall_columns(pair)} == set(evaluation.retrieval)
    tests = {(each.task, data) for each in evaluation.transfer.values() for data in each.tests}
    assert {(task, data) for task, data, _ in TRANSFERS.values()} <= tests
    assert {name.split(" | ")[1] for name in mask_columns()} == set(
        read_config(DownstreamSettings, "comet", "segmentation-world").segmentation["stills"].tests
    )


def test_averages_are_of_single_figures_and_only_where_all_are_there() -> None:
    made = stage({"transfer": 0.5, "V-T": 0.2})
    made["figures"][MEASURES["V-T"][0]]["value"] = 0.8
    found = stage_scores(made)
    assert found["transfer"] == pytest.approx(0.5) and found["V-T"] == pytest.approx((0.8 + 5 * 0.2) / 6)
    assert (found["codes in 2"], found["dead codes"], found["perplexity"], found["restarts"]) == (0.3, 0.02, 15, 40)
    del made["figures"][MEASURES["V-T"][0]]
    assert "V-T" not in stage_scores(made)
    assert found[chance_of("transfer")] == pytest.approx(0.1)
    assert set(stage_scores(stage({}, None))) == {"restarts"}


def test_retention_is_the_last_stage_over_the_first_and_plasticity_is_the_first() -> None:
    scores = scores_by_seed({Cell("dcid", 0, FIRST): run(FIRST, 0.4, later=0.1)})[0, ""]
    assert scores.course("V-T", "dcid", FIRST) == pytest.approx([0.4, 0.1, 0.1])
    assert scores.kept("V-T", "dcid", FIRST) == pytest.approx(0.0), "chance, 0.1, is nothing kept"
    assert scores.excess("V-T", "dcid", FIRST) == pytest.approx([0.3, 0.0, 0.0])
    assert scores.course(chance_of("V-T"), "dcid", FIRST) == pytest.approx([0.1] * 3)
    assert scores.kept("I-T", "dcid", FIRST) == 1 and scores.learned("A-T", "dcid", FIRST) == pytest.approx(0.4)
    assert scores.at("transfer", "dcid", FIRST, 2) == pytest.approx(0.4)
    nothing = scores_by_seed({Cell("dcid", 0, FIRST): run(FIRST, 0.0)})[0, ""]
    assert nothing.kept("V-T", "dcid", FIRST) == 0, "of nothing, nothing is kept"


def test_tables_are_means_of_the_seeds_that_there_are() -> None:
    records = {Cell("dcid", seed, FIRST): run(FIRST, 0.2 + 0.1 * seed, later=0.15) for seed in (0, 1, 2)}
    seeds = scores_by_seed(records)
    row = score_tables(seeds)[FIRST]["dcid"]
    assert row["seeds"] == [0, 1, 2] and row["stages"][0]["V-T"]["mean"] == pytest.approx(0.3)
    assert row["stages"][0]["V-T"]["values"] == pytest.approx([0.2, 0.3, 0.4])
    kept = memory_table(seeds)[FIRST]["dcid"]["V-T"]
    assert kept["retention"]["mean"] == pytest.approx((0.5 + 0.25 + 0.05 / 0.3) / 3)
    assert kept["plasticity"]["mean"] == pytest.approx(0.3) and kept["chance"] == pytest.approx(0.1)
    assert "retention" not in memory_table(seeds)[FIRST]["dcid"]["I-T"], "nothing came after it"
    name = next(iter(COLUMNS["V-T"]))
    assert [each[name] for each in figure_table(records)[FIRST]["dcid"]] == pytest.approx([0.3, 0.15, 0.15])


def test_figures_are_read_beside_chance_and_two_bounds() -> None:
    records = {Cell("raw", 0): raw(), Cell("dcid", 0, FIRST): run(FIRST, 0.4)}
    found = references(records, FIRST, "dcid")
    heard = found["classification video to audio | test | accuracy, last epoch"]
    assert heard == {"chance": 0.1, "codes": 0.9, "raw": 0.95}
    assert found["localisation audio to video | test | F1, last epoch"]["raw"] is None
    assert references(records, FIRST, "dcid-comet") == {}


def test_the_cell_of_bounds_is_no_seed() -> None:
    assert set(scores_by_seed(cells({}, seeds=(1,)))) == {(1, "")}
    assert scores_by_seed({Cell("raw", 0): raw()}) == {}
