"""From cells to gains, by numbers that are worked out by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest

from polysense.recipes.cells import Cell
from polysense.recipes.mera_gains import (
    EXPERT,
    expert,
    expert_scores,
    gain_summary,
    gain_tables,
    gains_by_seed,
    raw_scores,
    stage_scores,
)
from polysense.recipes.mera_world import ORDERS
from tests.recipes.mera_cells import EXPERTS, cells, learner, stage

KEPT = {"fine-tuning": (0.4, 0.5, 0.6), "mera-10": (0.9, 1.0, 1.1)}


def test_scores_are_read_by_sense_and_task() -> None:
    own = stage({"image": (0.8, 0.3), "audio": (0.5, 0.6)})
    own["results"].append({"task": "retrieval", "modality": "image", "value": 0.1})
    assert stage_scores(own) == {"image": {"captioning": 0.8, "question answering": 0.3},
                                 "audio": {"captioning": 0.5, "question answering": 0.6}}  # fmt: skip


def test_every_seed_has_its_own_experts() -> None:
    records = {Cell(EXPERT, seed, "image"): {"stages": [stage({"image": (1.0 + seed, 0.5)})]} for seed in (0, 1)}
    found = expert_scores(records, (1, ""), "reverse", ["image", "audio"])
    assert found == {"image": {"captioning": 2.0, "question answering": 0.5}}


def test_an_order_of_another_recipe_is_measured_by_its_own_experts() -> None:
    def scored(image: float) -> dict[str, object]:
        return {"stages": [stage({"image": (image, 0.5)})]}

    records = {Cell(EXPERT, 0, "image"): scored(1.0), expert("six", "image", 0): scored(4.0)}
    assert expert_scores(records, (0, ""), "six", ["image"])["image"]["captioning"] == 4.0
    assert expert_scores(records, (0, ""), "reverse", ["image"])["image"]["captioning"] == 1.0
    assert expert_scores(records, (0, ""), "unialign", ["image"]) == {}, "the other recipes' experts are no measure"
    senses = ORDERS["sequential"]
    own = {expert("six", sense, 0): {"stages": [stage({sense: (4.0, 0.5)})]} for sense in senses}
    records = cells(KEPT, seeds=(0,)) | own | {Cell("ewc", 0, "six"): learner("sequential", (0.4, 0.5, 0.6))}
    (run,) = gains_by_seed(records, {**ORDERS, "six": ORDERS["sequential"]}).values()
    assert run.mean("ewc", "six") < run.mean("fine-tuning", "sequential"), "its experts know more"


def test_gains_of_a_seed_by_method_and_order() -> None:
    """Stages 1 (100 %), 0.4, 0.5 and 0.6: mean 0.625; squares about it .140625 + .050625 + .015625 + .000625."""
    seeds = gains_by_seed(cells(KEPT), ORDERS)
    assert [seed for seed, _ in seeds] == [0, 1, 2] and seeds[0, ""].has(KEPT, ("sequential", "reverse"))
    assert not seeds[0, ""].has(("ewc",), ("reverse",))
    assert seeds[0, ""].mean("fine-tuning", "reverse") == pytest.approx(0.625)
    assert seeds[0, ""].deviation("fine-tuning", "reverse") == pytest.approx((0.2075 / 3) ** 0.5)
    assert seeds[2, ""].backward("mera-10", "sequential") == pytest.approx((1.0, 0.9, 1.0, 1.1))
    assert seeds[2, ""].forward("mera-10", "sequential") == pytest.approx((1.0, 1.0, 1.0, 1.0))


def test_what_began_with_other_parts_is_measured_by_experts_that_did_too() -> None:
    first, second = cells(KEPT, seeds=(0,)), cells({"fine-tuning": (0.4, 0.5, 0.6)}, seeds=(0,))
    better = {cell: stage({sense: (2 * cider, 2 * right)}) for cell, (sense, (cider, right)) in zip(
        second, EXPERTS.items(), strict=False)}  # fmt: skip
    second |= {cell: {"stages": [each]} for cell, each in better.items()}
    records = first | {replace(cell, parts="b"): record for cell, record in second.items()}
    found = gains_by_seed(records, ORDERS)
    assert list(found) == [(0, ""), (0, "b")] and not found[0, "b"].has(("mera-10",), ("reverse",))
    assert found[0, "b"].backward("fine-tuning", "reverse")[1:] == pytest.approx((0.2, 0.25, 0.3))


def test_a_seed_without_its_experts_waits_for_them() -> None:
    records = cells(KEPT, seeds=(0, 1))
    del records[Cell(EXPERT, 1, "audio")]
    records[Cell("cost", 0, "sequential")] = {"inference": {}}  # has no stages
    seeds = gains_by_seed(records, ORDERS)
    assert not seeds[1, ""].gains and set(seeds[0, ""].gains) == {
        (m, o) for m in KEPT for o in ("sequential", "reverse")
    }


def test_tables_are_means_over_the_seeds_that_a_method_has() -> None:
    records = cells(KEPT, seeds=(0, 1, 2), step=0.1) | {
        Cell("merging", 0, "sequential"): learner("sequential", (0.7, 0.7, 0.7))
    }
    table = gain_tables(gains_by_seed(records, ORDERS), ORDERS)
    assert set(table) == {"sequential", "reverse"} and set(table["reverse"]) == set(KEPT)
    tuned = table["sequential"]["fine-tuning"]
    assert tuned["mean"]["values"] == pytest.approx([0.625, 0.7, 0.775]) and tuned["mean"]["mean"] == pytest.approx(
        0.7
    )
    assert tuned["mean"]["high"] - 0.7 == pytest.approx(2.92 * 0.075 / 3**0.5)
    assert tuned["backward"] == pytest.approx([1.0, 0.5, 0.6, 0.7]) and tuned["forward"] == pytest.approx([1.0] * 4)
    assert table["sequential"]["merging"]["mean"] == {"mean": pytest.approx(0.775), "low": None, "high": None,
                                                     "values": pytest.approx([0.775])}  # fmt: skip


def test_one_run_is_its_own_summary() -> None:
    (run,) = gains_by_seed(cells({"ewc": (0.5, 0.5, 0.5)}, seeds=(4,)), ORDERS).values()
    found = gain_summary({(4, "abc"): run.gains["ewc", "reverse"]})
    assert found["seeds"] == ["4 of abc"]
    assert found["mean"]["mean"] == pytest.approx(0.625) and found["deviation"]["mean"] == pytest.approx(0.25)


def test_raw_scores_are_means_by_stage_sense_and_task() -> None:
    raw = raw_scores(cells(KEPT, step=0.1), ORDERS)["reverse"]
    found = raw["methods"]["fine-tuning"]
    assert raw["seeds"] == [0, 1, 2] and [len(scores) for scores in found] == [1, 2, 3, 4]
    image, points = EXPERTS["image"], EXPERTS["point_cloud"]
    assert raw["experts"]["image"] == {"captioning": image[0], "question answering": pytest.approx(image[1])}
    assert found[0]["point_cloud"]["captioning"] == points[0]
    assert found[1]["point_cloud"]["question answering"] == pytest.approx(0.5 * points[1])  # 0.4, 0.5 and 0.6
    assert found[3]["image"]["captioning"] == pytest.approx(image[0])


def test_raw_scores_are_of_the_seeds_that_all_methods_have() -> None:
    records = cells(KEPT, step=0.1) | cells({"merging": (0.7, 0.7, 0.7)}, seeds=(1,))
    raw = raw_scores(records, ORDERS)
    assert raw["sequential"]["seeds"] == [1]
    audio = raw["sequential"]["methods"]["fine-tuning"][3]["audio"]["captioning"]
    assert audio == pytest.approx((0.6 + 0.1) * EXPERTS["audio"][0])
    none = {cell: record for cell, record in records.items() if cell.unit != (1, "") or cell.method != "merging"}
    none |= {Cell("merging", 7, order): learner(order, (0.7, 0.7, 0.7)) for order in ("sequential", "reverse")}
    assert raw_scores(none, ORDERS) == {}
