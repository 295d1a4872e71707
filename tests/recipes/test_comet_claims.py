"""COMET's claims by hand, on made-up cells."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from polysense.recipes.cells import Cell
from polysense.recipes.comet_claims import CLAIMS, score_claims, undecided_cells
from polysense.recipes.comet_scores import scores_by_seed
from polysense.recipes.comet_variants import FIRST, METHODS, SECOND, SPOKEN
from tests.recipes.comet_cells import cells, run

VALUES = {
    "dcid": 0.2, "turn": 0.1, "cmcm": 0.15, "dcid-comet": 0.5, "dcid-printed": 0.26, "turn-printed": 0.08,
    "turn-comet": 0.3, "cmcm-printed": 0.16, "cmcm-comet": 0.35, "comet-no-replay": 0.21,
    "printed-no-replay": 0.21, "printed-no-experts": 0.23,
    "printed-no-gate": 0.24, "printed-no-ewc": 0.25, "printed-no-specific": 0.27, "printed-experts-1": 0.2,
    "printed-experts-2": 0.22, "printed-experts-4": 0.23, "printed-experts-8": 0.24,
}  # fmt: skip
PRINTED, FROZEN = "as printed", "frozen teacher"


def judged(records: Mapping[Cell, Any]) -> dict[str, dict[str, Any]]:
    return score_claims(scores_by_seed(records))


def test_every_claim_is_judged_in_both_readings_and_names_known_methods() -> None:
    numbers = {int(name.split()[0].removeprefix("CO")) for name in CLAIMS if name.startswith("CO")}
    assert numbers == set(range(1, 18))
    assert {name.replace(PRINTED, FROZEN) for name in CLAIMS if PRINTED in name} == {
        name for name in CLAIMS if FROZEN in name
    }
    assert {method for each in CLAIMS.values() for method in each.methods} <= set(METHODS)
    assert next(iter(CLAIMS)) == "CO1 (as printed)" and list(CLAIMS)[-1].startswith("aim")


def test_claims_by_hand() -> None:
    found = {name: each["mean"] for name, each in judged(cells(VALUES)).items()}
    expected = {
        f"CO1 ({PRINTED})": 0.06, f"CO1 ({FROZEN})": 0.3, f"CO2 ({PRINTED})": 0.06, f"CO3 ({PRINTED})": 0.0,
        f"CO3 ({FROZEN})": 0.2, f"CO4 ({PRINTED})": 0.01, f"CO5 (transfer, {PRINTED})": 0.06,
        f"CO5 (first pair, {FROZEN})": 0.3, f"CO6 ({PRINTED})": 0.06, f"CO7 ({FROZEN})": 0.3,
        f"CO8 ({PRINTED})": 0.06 + 0.01, f"CO9 ({PRINTED})": 0.06, f"CO10 ({FROZEN})": 0.3,
        f"CO11 ({PRINTED})": 0.26 - 0.21, f"CO11 ({FROZEN})": 0.5 - 0.21, f"CO12 ({PRINTED})": 0.03,
        f"CO13 ({PRINTED})": 0.02, f"CO14 ({PRINTED})": 0.01, f"CO15 ({PRINTED})": -0.01,
        f"CO11 (most, {PRINTED})": 0.05 - 0.03, f"CO16 (rises, {PRINTED})": 0.26 - 0.2,
        f"CO16 (falls, {PRINTED})": 0.26 - 0.24, f"CO17 (shared, {PRINTED})": 0.0, f"CO17 (none, {FROZEN})": 0.0,
        f"aim (retention, {FROZEN})": 1 - 0.85, f"aim (plasticity, A-T, {FROZEN})": 0.4 / 0.1 - 0.85,
        f"aim (plasticity, I-T, {PRINTED})": 0.16 / 0.1 - 0.85, f"aim (dead codes, stage 2, {FROZEN})": 0.03,
        f"aim (dead codes, stage 3, {FROZEN})": 0.03,
    }  # fmt: skip
    assert {name: found[name] for name in expected} == pytest.approx(expected, abs=1e-12)
    verdicts = {name: judged(cells(VALUES))[name]["verdict"] for name in expected}
    assert verdicts[f"CO1 ({PRINTED})"] == "reproduced" and verdicts[f"CO15 ({PRINTED})"] == "not reproduced"


def test_what_is_claimed_of_both_stages_has_to_hold_in_the_worse_one() -> None:
    records = cells(VALUES)
    for seed in range(3):
        record = run(FIRST, 0.5)
        for figure in (each for name, each in record["stages"][2]["figures"].items() if "video-text" in name):
            figure["value"] = 0.14
        records[Cell("dcid-comet", seed, FIRST)] = record
    found = judged(records)
    assert found[f"CO6 ({FROZEN})"]["mean"] == pytest.approx(0.14 - 0.2)
    assert found[f"aim (retention, {FROZEN})"]["mean"] == pytest.approx(0.04 / 0.4 - 0.85), "chance is 0.1"


def test_of_two_guesses_none_is_better() -> None:
    found = judged(cells({**VALUES, "dcid": 0.08, "dcid-printed": 0.1}))
    low, high = found[f"CO9 ({PRINTED})"], found[f"CO9 ({FROZEN})"]
    assert (low["verdict"], low["values"]) == ("not measured", []) and "clear of chance" in low["reason"]
    assert high["verdict"] == "reproduced", "the frozen teacher's 0.5 is no guess"
    one = judged({Cell(method, 0, FIRST): run(FIRST, 0.1) for method in ("dcid", "dcid-printed")})
    assert len(one[f"CO9 ({PRINTED})"]["values"]) == 1, "of one seed nobody knows"


def test_codes_that_more_senses_activate_are_shared() -> None:
    records = cells(VALUES)
    for seed in range(3):
        records[Cell("dcid-printed", seed, FIRST)] = run(FIRST, 0.26, active=(0.05, 0.15, 0.3, 0.5))
    found = judged(records)
    assert found[f"CO17 (shared, {PRINTED})"]["mean"] == pytest.approx(0.8 - 0.7)
    assert found[f"CO17 (none, {PRINTED})"]["mean"] == pytest.approx(0.1 - 0.05)


def test_claims_without_cells_say_what_is_missing() -> None:
    found = judged({Cell(method, 0, FIRST): run(FIRST, 0.3) for method in ("dcid", "dcid-comet")})
    assert found[f"CO1 ({FROZEN})"]["values"] == [0.0] and found[f"CO1 ({FROZEN})"]["low"] is None
    other = found[f"CO3 ({FROZEN})"]
    assert other["verdict"] == "not measured" and other["reason"].endswith("missing: turn, turn-comet")
    assert judged({})[f"CO1 ({FROZEN})"]["verdict"] == "not measured"


def test_a_stage_without_the_figures_is_not_measured_either() -> None:
    silent = {Cell(method, 0, SPOKEN): run(FIRST, 0.3) for method in ("dcid", "dcid-comet")}
    found = judged(silent)[f"CO10 ({FROZEN})"]
    assert found["verdict"] == "not measured" and "their scores" in found["reason"]


def test_undecided_claims_ask_for_their_methods_in_their_orders() -> None:
    records = cells(VALUES)
    for seed in range(3):
        records[Cell("dcid-printed", seed, SECOND)] = run(SECOND, 0.2 + 0.3 * (-1) ** seed)
    found = undecided_cells({f"CO5 (transfer, {PRINTED})": judged(records)[f"CO5 (transfer, {PRINTED})"]}, (3, 4))
    assert found == [Cell(method, seed, SECOND) for seed in (3, 4) for method in ("dcid", "dcid-printed")]
    assert undecided_cells(judged({}), (3,)) == []
