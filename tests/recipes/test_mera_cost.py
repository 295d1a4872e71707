"""Costs: exact ones on tiny models, ratios on made-up cells."""

from __future__ import annotations

import mmap
from pathlib import Path

import pytest

from polysense.recipes import mera_cost
from polysense.recipes.cells import Cell
from polysense.recipes.mera_cost import BASE, PeakMemory, cost_claims, cost_table, inference_cost
from polysense.testing import tiny_llama, tiny_mera, tiny_tokenizer
from tests.recipes.mera_cells import cells, learner


def test_the_peak_of_memory_is_that_since_one_began_to_look() -> None:
    before = PeakMemory()
    if before.mib() is None:
        pytest.skip("this system does not tell")
    with mmap.mmap(-1, 64 << 20) as block:  # malloc may keep what it is given back
        for page in range(0, len(block), mmap.PAGESIZE):
            block[page] = 1
        during = before.mib()
    after = PeakMemory().mib()
    assert during is not None and after is not None and during - after > 50


def test_a_system_that_does_not_tell_gives_no_peak(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(mera_cost, "_CLEAR", tmp_path)
    assert PeakMemory().mib() is None


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("cost")
    tiny_llama().save_pretrained(folder / "llm")
    tiny_tokenizer().save_pretrained(folder / "llm")
    tiny_mera("audio").save_pretrained(folder / "mera-10")
    return {"llm": folder / "llm", "mera-10": folder / "mera-10"}


def test_senses_cost_the_language_model_nothing_per_token(folders: dict[str, Path]) -> None:
    cost = inference_cost({"mera-10": folders["mera-10"]}, folders["llm"])
    assert set(cost) == {BASE, "mera-10"}
    assert cost["mera-10"]["flops"] == cost[BASE]["flops"] > 0
    parameters = sum(each.numel() for each in tiny_llama().parameters())
    assert cost[BASE]["bytes"] == 4 * parameters <= cost["mera-10"]["bytes"]
    assert all(each["milliseconds"] > 0 for each in cost.values())


def measured() -> dict[Cell, object]:
    """Training: EWC takes 1.1 times, MERA 1.02 and 1.15 times as long; EWC and PathWeave need 3 and 7 % more room."""
    found = dict(cells({"fine-tuning": (0.5, 0.5, 0.5)}))
    costs = {"ewc": (11.0, 103.0), "pathweave": (15.0, 107.0), "mera-1": (10.2, 100.0), "mera-10": (11.5, 101.0)}
    for seed in range(3):
        for order in ("sequential", "reverse"):
            for method, (seconds, peak) in costs.items():
                found[Cell(method, seed, order)] = learner(order, (0.5, 0.5, 0.5), seconds=seconds, peak=peak)
        same = {"bytes": 8.0, "flops": 4.0, "milliseconds": 2.0}
        woven = {"bytes": 10.0, "flops": 9.0, "milliseconds": 6.6 + 0.01 * seed}
        found[Cell("cost", seed, "sequential")] = {
            "inference": {BASE: same, "fine-tuning": same, "mera-10": same, "pathweave": woven}
        }
    return found  # type: ignore[return-value]


def test_costs_are_multiples_of_fine_tunings() -> None:
    table = cost_table(measured())  # type: ignore[arg-type]
    assert table["ewc"] == {"training memory": pytest.approx(1.03), "training time": pytest.approx(1.1),
                            "inference memory": None, "latency per token": None}  # fmt: skip
    assert table["pathweave"]["inference memory"] == 1.25
    assert table["pathweave"]["latency per token"] == pytest.approx(3.305)
    assert table["mera-10"]["training time"] == pytest.approx(1.15)
    assert table["replay-1"]["training time"] is None


def test_claims_about_costs_by_hand() -> None:
    found = cost_claims(measured())  # type: ignore[arg-type]
    means = {name: claim["mean"] for name, claim in found.items() if "mean" in claim}
    assert means == pytest.approx({
        "ME17 (time, 1 %)": 0.05, "ME17 (time, 10 %)": 0.05, "ME17 (memory)": 0.04,
        "ME17 (EWC and PathWeave)": 0.03, "ME18 (latency)": 0.05, "ME18 (PathWeave)": 2.305,
    })  # fmt: skip
    assert found["ME18 (size)"]["values"] == [1.0] * 6
    assert {claim["verdict"] for claim in found.values()} == {"reproduced"}


def test_what_was_not_measured_is_said() -> None:
    found = cost_claims(cells({"fine-tuning": (0.5, 0.5, 0.5)}))
    assert {claim["verdict"] for claim in found.values()} == {"not measured"}
    assert found["ME18 (size)"]["reason"] == "no checkpoint was measured"


def test_systems_that_do_not_tell_memory_leave_its_claims_out() -> None:
    found = cells({"fine-tuning": (0.5, 0.5, 0.5), "mera-10": (0.9, 0.9, 0.9)}, peak=None)
    claims = cost_claims(found)
    assert claims["ME17 (memory)"]["verdict"] == "not measured"
    assert claims["ME17 (time, 10 %)"]["mean"] == pytest.approx(0.2)
