from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from polysense.errors import ConfigError
from polysense.metrics.gains import RelativeGains, Scores, relative_gain, relative_gains

PAPER: dict[str, Any] = json.loads((Path(__file__).parent / "mera_tables.json").read_text())
METHODS = list(PAPER["table_2"])


def scores(values: list[float]) -> Scores:
    return {"captioning": values[0], "qa": values[1]}


def of_paper(method: str, direction: str) -> RelativeGains:
    """The gains of one method from the raw Tables 9 (sequential) and 10 (reverse)."""
    order = PAPER["order"][direction]
    stages = [
        {modality: scores(row[2 * i : 2 * i + 2]) for i, modality in enumerate(order[: len(row) // 2])}
        for row in PAPER["raw"][direction][method]
    ]
    return relative_gains(order, stages, {name: scores(values) for name, values in PAPER["experts"].items()})


def as_printed(method: str) -> list[float]:
    """Mean and deviation, sequential then reverse, in the per cent and with the two decimals of the paper's tables."""
    both = [of_paper(method, direction) for direction in ("sequential", "reverse")]
    return [round(100 * x, 2) for gains in both for x in (gains.backward_mean, gains.backward_deviation)]


@pytest.mark.parametrize("method", METHODS)
def test_table_2_from_the_raw_tables_to_two_decimals(method: str) -> None:
    assert as_printed(method) == PAPER["table_2"][method]


def test_table_4_from_the_raw_tables_where_they_hold_the_runs() -> None:
    assert as_printed("Fine-Tuning") == PAPER["table_4"]["Fine-Tuning"]
    assert as_printed("MERA (10%)") == PAPER["table_4"]["MERA"]


@pytest.mark.parametrize("method", [name for name in PAPER["table_5"] if name != "Merging"])
def test_table_5_starts_from_the_raw_tables(method: str) -> None:
    assert as_printed(method) == PAPER["table_5"][method][0]


@pytest.mark.parametrize(
    ("base", "with_realigning"),
    [("Fine-Tuning", PAPER["table_4"]["+Realigning"]), ("Merging", as_printed("MERA (10%)"))],
)
def test_table_5_adds_what_realigning_brings(base: str, with_realigning: list[float]) -> None:
    """Fine-tuning + realigning is a row of Table 4; merging + realigning is MERA, which the raw tables hold.

    The paper subtracts before it rounds, so that the last decimal of a difference of rounded figures may be one off.
    """
    before, added = PAPER["table_5"][base]
    assert [after - start for after, start in zip(with_realigning, before, strict=True)] == pytest.approx(
        added, abs=0.011
    )


def test_the_headline_is_the_last_stage_averaged_over_both_orders() -> None:
    """99.84 % for MERA (10 %), 20.37 points above the best rival, and 15.94 for MERA (1 %) (section 5.2)."""
    last = {
        method: 50 * sum(of_paper(method, direction).backward[-1] for direction in ("sequential", "reverse"))
        for method in METHODS
    }
    rival = max(value for method, value in last.items() if not method.startswith("MERA"))
    assert round(last["MERA (10%)"], 2) == 99.84
    assert round(last["MERA (10%)"] - rival, 2) == 20.37
    assert round(last["MERA (1%)"] - rival, 2) == 15.94


def test_forward_gains_of_the_paper() -> None:
    """Figure 3's data, recomputed from Table 9 (method-facts 4.7)."""
    gains = of_paper("MERA (10%)", "sequential")
    assert [round(100 * gain, 1) for gain in gains.forward] == [100.0, 117.9, 103.1, 85.0]


def test_gains_by_hand() -> None:
    """Stage 2 keeps (5/10 + 1/2) / 2 = 0.5 of a; stage 3 keeps (a: 0.75, b: 1.25), mean 1; c itself reaches 0.5."""
    experts = {"a": {"cap": 10.0, "qa": 2.0}, "b": {"cap": 4.0, "qa": 1.0}, "c": {"cap": 1.0, "qa": 1.0}}
    stages = [
        {"a": {"cap": 10.0, "qa": 2.0}},
        {"a": {"cap": 5.0, "qa": 1.0}, "b": {"cap": 2.0, "qa": 1.0}},
        {"a": {"cap": 5.0, "qa": 2.0}, "b": {"cap": 6.0, "qa": 1.0}, "c": {"cap": 0.0, "qa": 1.0}},
    ]
    gains = relative_gains(["a", "b", "c"], stages, experts)
    assert gains.backward == (1.0, 0.5, 1.0)
    assert gains.forward == (1.0, 0.75, 0.5)
    assert gains.backward_mean == pytest.approx(2.5 / 3)
    assert gains.backward_deviation == pytest.approx((1 / 12) ** 0.5)  # 1/36 + 4/36 + 1/36, over 2 and not 3


def test_the_first_stage_counts_as_whole_even_if_it_scores_otherwise() -> None:
    experts = {"a": {"qa": 0.5}, "b": {"qa": 0.5}}
    gains = relative_gains(["a", "b"], [{"a": {"qa": 0.4}}, {"a": {"qa": 0.2}, "b": {"qa": 0.5}}], experts)
    assert gains.backward == (1.0, 0.4)
    assert gains.forward == (0.8, 1.0)


@pytest.mark.parametrize(
    ("own", "expert", "message"),
    [
        ({"qa": 0.5}, {"cap": 1.0}, "cannot be compared"),
        ({}, {}, "cannot be compared"),
        ({"qa": 0.5}, {"qa": 0.0}, "qa: the expert's score is 0.0"),
        ({"qa": 0.5}, {"qa": float("nan")}, "qa: the expert's score is nan"),
    ],
)
def test_what_has_no_relative_gain(own: Scores, expert: Scores, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        relative_gain(own, expert)


def test_stages_without_scores_are_named() -> None:
    one, both = {"a": {"qa": 1.0}}, {"a": {"qa": 1.0}, "b": {"qa": 1.0}}
    with pytest.raises(ConfigError, match="stage 2: there are no scores of 'b'"):
        relative_gains(["a", "b"], [one, one], both)
    with pytest.raises(ConfigError, match="experts: there are no scores of 'b'"):
        relative_gains(["a", "b"], [one, both], one)


@pytest.mark.parametrize("count", [0, 1, 3])
def test_the_number_of_stages_must_fit(count: int) -> None:
    both = {"a": {"qa": 1.0}, "b": {"qa": 1.0}}
    with pytest.raises(ConfigError, match=f"{count} stages with 2 modalities"):
        relative_gains(["a", "b"], [both] * count, both)
