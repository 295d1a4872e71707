"""What UniAlign's cells come to: claims with their verdicts, and what lies behind them."""

from __future__ import annotations

import json

import pytest

from polysense.recipes.cells import Cell
from polysense.recipes.claims import undecided
from polysense.recipes.unialign_claims import (
    COMPARED,
    METHODS,
    SENSES,
    by_sense,
    claims,
    held_to,
    score,
    sense_table,
)
from tests.recipes.unialign_cells import record, records

COST = {"flops": 10, "flops_ratio": 1.0, "bytes": 20, "bytes_ratio": 1.0}


def test_a_score_is_that_of_sense_split_and_metric() -> None:
    found = record(0.6, audio=0.2)
    assert score(found, "audio")["value"] == 0.2 and score(found, "depth")["value"] == 0.6
    assert score(found, "audio", "compositional")["value"] == pytest.approx(0.15)


def test_claims_rest_on_differences_paired_by_seed() -> None:
    found = claims(records(), COST)
    assert found["UA2"]["values"] == pytest.approx([0.3, 0.32, 0.34])  # three times the chance of 0.1 taken off
    assert found["UA6"]["values"] == pytest.approx([0.1] * 3) and found["UA6"]["mean"] == pytest.approx(0.1)
    assert found["UA9"]["values"] == pytest.approx([0.1, -0.1, 0.0])
    # the sample deviation of 0.1, -0.1 and 0 is 0.1, and Student's t of two degrees of freedom 2.92
    assert found["UA9"]["high"] == pytest.approx(2.92 * 0.1 / 3**0.5) == -found["UA9"]["low"]
    assert found["UA14 (A+V)"]["values"] == pytest.approx([0.106, 0.1062, 0.1064])  # against video, the better one
    assert found["UA14 (Fig. 5)"]["values"] == pytest.approx([-0.106, -0.1062, -0.1064])  # against depth
    assert {name: claim["verdict"] for name, claim in found.items()} == {
        "UA2": "reproduced", "UA2 (compositional)": "reproduced", "UA6": "reproduced",
        "UA9": "undecided within the spread", "UA14 (A+V)": "reproduced",
        "UA14 (Fig. 5)": "not reproduced", "UA15": "reproduced",
    }  # fmt: skip


def test_one_sense_at_chance_fails_the_claim_about_all() -> None:
    cells = records()
    worse = {cell: record(0.6, audio=0.2 + cell.seed / 100) for cell in cells if cell.method == "joint"}
    claim = claims({**cells, **worse}, COST)["UA2"]
    assert claim["values"] == pytest.approx([-0.1, -0.09, -0.08]) and claim["verdict"] == "not reproduced"


def test_every_sense_is_held_to_its_share_of_the_bound_and_to_three_times_chance() -> None:
    cells = records(nce={0: 0.32, 1: 0.4, 2: 0.48})  # of a bound of 0.8
    worse = {cell: record(0.6, audio=0.38 + cell.seed / 100) for cell in cells if cell.method == "joint"}
    easy = {cell: {**record(0.4), "results": record(0.4, video=0.7 + cell.seed / 100)["results"]}
            for cell in cells if cell.method == "nce"}  # fmt: skip
    found = held_to({**cells, **worse})
    assert found["nce_share"]["depth"]["values"] == pytest.approx([0.4, 0.5, 0.6])
    assert found["nce_share"]["depth"]["verdict"] == "undecided within the spread"
    shares = held_to({**cells, **easy})["nce_share"]
    assert shares["depth"]["verdict"] == "reproduced" and shares["video"]["verdict"] == "not reproduced"
    times = found["times_chance"]
    assert times["test"]["joint"]["audio"]["values"] == pytest.approx([3.8, 3.9, 4.0])
    assert times["test"]["joint"]["audio"]["verdict"] == "reproduced"
    # a quarter less on combinations that were never seen
    assert times["compositional"]["joint"]["audio"]["values"] == pytest.approx([2.85, 2.925, 3.0])
    assert times["compositional"]["joint"]["audio"]["verdict"] == "undecided within the spread"
    assert times["compositional"]["incremental"]["depth"]["mean"] == pytest.approx(3.0)


@pytest.mark.parametrize("key", ["flops_ratio", "bytes_ratio"])
def test_the_cost_of_a_sense_must_not_grow_at_all(key: str) -> None:
    assert claims(records(), {**COST, key: 1.0001})["UA15"]["verdict"] == "not reproduced"


def test_every_sense_is_set_beside_its_bound_and_chance() -> None:
    found = sense_table(records())
    depth = found["depth"]
    assert depth["bound"] == {
        "seeds": [0, 1, 2], "values": [0.8] * 3, "mean": pytest.approx(0.8), "low": pytest.approx(0.8),
        "high": pytest.approx(0.8),
    }  # fmt: skip
    joint = depth["test"]["joint"]
    assert joint["values"] == [0.6, 0.62, 0.64] and joint["mean"] == pytest.approx(0.62)
    assert joint["share_of_bound"] == pytest.approx(0.775)
    assert joint["high"] - joint["mean"] == pytest.approx(2.92 * 0.02 / 3**0.5)
    assert depth["compositional"]["joint"]["values"] == pytest.approx([0.45, 0.465, 0.48])
    assert "share_of_bound" not in depth["compositional"]["joint"] and depth["compositional"]["chance"] == 0.1
    assert set(found) == set(SENSES) and json.loads(json.dumps(found)) == found


def test_methods_whose_comparison_is_undecided_get_more_seeds() -> None:
    assert undecided(claims(records(), COST), COMPARED) == ["joint", "nce"]
    more = {Cell(method, seed): record(value) for method, value in (("joint", 0.6), ("nce", 0.4)) for seed in (3, 4)}
    cells = {**records(), **more}
    found = claims(cells, COST)
    assert found["UA9"]["values"] == pytest.approx([0.1, -0.1, 0.0, 0.2, 0.2])
    assert found["UA6"]["values"] == pytest.approx([0.1] * 3)
    rows = sense_table(cells)["depth"]["test"]
    assert rows["joint"]["seeds"] == [0, 1, 2, 3, 4] and rows["incremental"]["seeds"] == [0, 1, 2]
    assert rows["joint"]["share_of_bound"] == pytest.approx(0.775), "of the seeds that have a bound"
    assert undecided(claims(records(nce=dict.fromkeys(range(3), 0.5)), COST), COMPARED) == []


def test_cells_are_compared_with_those_of_their_anchor_and_count_as_further_seeds() -> None:
    other = {cell: each for cell, each in records("abc").items() if (cell.method, cell.seed) != ("nce", 2)}
    shifted = {cell: record(0.9) if cell.method == "joint" else each for cell, each in other.items()}
    cells = {**records(), **shifted}
    found = claims(cells, COST)
    assert found["UA6"]["values"] == pytest.approx([0.1, 0.4, 0.1, 0.38, 0.1, 0.36])
    assert found["UA9"]["values"] == pytest.approx([0.1, 0.4, -0.1, 0.18, 0.0]), "seed 2 of abc has no other side"
    assert sense_table(cells)["audio"]["test"]["nce"]["seeds"] == [0, "0 of abc", 1, "1 of abc", 2]
    alone = {**{cell: each for cell, each in records().items() if cell.method == "joint"},
             Cell("global", 0, parts="abc"): record(0.5)}  # fmt: skip
    assert claims(alone, COST)["UA6"]["reason"] == "no seed has all of its methods; missing: a common seed"


def test_a_claim_whose_cells_are_missing_says_which_and_the_others_stand() -> None:
    cells = {cell: each for cell, each in records().items() if cell.method != "global"}
    found = claims(cells, COST)
    assert found["UA6"] == {
        "measure": "grouping minus global routing, mean top-1", "values": [], "verdict": "not measured",
        "reason": "no seed has all of its methods; missing: global",
    }  # fmt: skip
    assert found["UA9"]["values"] and set(by_sense(cells)) == {"UA9"}
    assert set(sense_table(cells)["depth"]["test"]) == {*METHODS, "chance"} - {"global", "bounds"}


def test_without_cells_nothing_was_measured() -> None:
    found = claims({}, None)
    assert {each["verdict"] for each in found.values()} == {"not measured"}
    assert found["UA15"]["reason"] == "no anchor is there whose senses could be counted"
    assert not sense_table({}) and not by_sense({})
    held = held_to({})
    assert {each["verdict"] for each in held["nce_share"].values()} == {"not measured"}
    assert held["times_chance"]["test"]["joint"]["audio"]["mean"] is None
    assert json.loads(json.dumps(held, allow_nan=False)) == held


def test_of_a_bound_that_gets_nothing_right_there_is_no_share() -> None:
    cells = {**records(), Cell("bounds", 0): {"bounds": dict.fromkeys(SENSES, 0.0)}}
    assert held_to(cells)["nce_share"]["depth"]["seeds"] == [1, 2]
    assert sense_table(cells)["depth"]["test"]["joint"]["share_of_bound"] == pytest.approx(0.63 / 0.8)


def test_one_seed_decides_nothing() -> None:
    cells = {cell: each for cell, each in records().items() if cell.seed == 1}
    assert {each["verdict"] for name, each in claims(cells, COST).items() if name != "UA15"} == {
        "one seed, which decides nothing"
    }
    assert held_to(cells)["nce_share"]["depth"]["verdict"] == "one seed, which decides nothing"
    row = sense_table(cells)["depth"]["test"]["joint"]
    assert (row["mean"], row["low"], row["seeds"]) == (0.62, None, [1])


def test_it_is_said_in_which_senses_methods_differ() -> None:
    found = by_sense(records())
    assert set(found) == {"UA6", "UA9"} and found["UA6"]["audio"]["mean"] == pytest.approx(0.1)
    changed = {cell: record(0.6, audio=0.2) for cell in records() if cell.method == "joint"}
    parts = by_sense({**records(), **changed})["UA6"]
    assert parts["audio"]["mean"] == pytest.approx(0.2 - 0.52) and parts["depth"]["mean"] == pytest.approx(0.08)
