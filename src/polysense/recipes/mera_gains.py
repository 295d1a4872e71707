"""What MERA's cells scored, as relative gains by seed, and summarised over seeds (MERA, section 5.1)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from polysense.metrics import RelativeGains, relative_gains
from polysense.metrics.gains import Scores
from polysense.recipes.answering import ANSWERING, CAPTIONING
from polysense.recipes.cells import Cell, Unit, unit_name
from polysense.recipes.claims import interval

EXPERT = "expert"
"""Method of the cells that learn one sense alone; their order is that sense, after `ORDER-` if it is of that order's
own recipe."""

ONE_ENCODER, SIX = "unialign", "six"
APART = (ONE_ENCODER, SIX)
"""Orders that have another recipe, and experts by it."""

Records = Mapping[Cell, Mapping[str, Any]]
Orders = Mapping[str, Sequence[str]]


def stage_scores(stage: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    """Sense to task to score, of one stage of a cell."""
    found: dict[str, dict[str, float]] = {}
    for each in stage["results"]:
        if each["task"] in (CAPTIONING, ANSWERING):
            found.setdefault(each["modality"], {})[each["task"]] = float(each["value"])
    return found


def expert(order: str, sense: str, seed: int, parts: str = "") -> Cell:
    """The expert of a sense that an order is measured by."""
    return Cell(EXPERT, seed, f"{order}-{sense}" if order in APART else sense, parts)


def expert_scores(records: Records, unit: Unit, order: str, senses: Sequence[str]) -> dict[str, Scores]:
    """Sense to the scores of the expert that an order is measured by, for one seed and its parts; of those there
    are."""
    cells = {sense: expert(order, sense, *unit) for sense in senses}
    return {
        sense: stage_scores(records[cell]["stages"][-1])[sense] for sense, cell in cells.items() if cell in records
    }


@dataclass(frozen=True)
class SeedGains:
    """What one seed's cells came to.

    Attributes:
        gains: (method, order) to its relative gains.
    """

    gains: Mapping[tuple[str, str], RelativeGains]

    def has(self, methods: Iterable[str], orders: Iterable[str]) -> bool:
        """Whether every one of the methods was run in every one of the orders."""
        orders = tuple(orders)
        return all((method, order) in self.gains for method in methods for order in orders)

    def mean(self, method: str, order: str) -> float:
        """Mean backward gain over the stages (Table 2)."""
        return self.gains[method, order].backward_mean

    def deviation(self, method: str, order: str) -> float:
        """Its deviation over the stages."""
        return self.gains[method, order].backward_deviation

    def backward(self, method: str, order: str) -> tuple[float, ...]:
        return self.gains[method, order].backward

    def forward(self, method: str, order: str) -> tuple[float, ...]:
        return self.gains[method, order].forward


def gains_by_seed(records: Records, orders: Orders) -> dict[Unit, SeedGains]:
    """The gains of all cells of known orders, by seed and parts; those that lack one of their experts wait for it."""
    found: dict[Unit, SeedGains] = {}
    for unit in sorted({cell.unit for cell in records}):
        gains = {}
        for cell in sorted(records):
            order = orders.get(cell.order, ())
            experts = expert_scores(records, unit, cell.order, order)
            if cell.unit == unit and cell.method != EXPERT and order and set(order) <= experts.keys():
                stages = [stage_scores(stage) for stage in records[cell].get("stages", ())]
                if stages:
                    gains[cell.method, cell.order] = relative_gains(order, stages, experts)
        found[unit] = SeedGains(gains)
    return found


def gain_summary(runs: Mapping[Unit, RelativeGains]) -> dict[str, Any]:
    """One method in one order over its seeds.

    Returns:
        `seeds`, their names; `mean` and `deviation` of the backward gain over the stages, each with mean, interval and
        values by seed; and the seeds' mean of `backward` and `forward` gain by stage.
    """
    means, deviations = [run.backward_mean for run in runs.values()], [run.backward_deviation for run in runs.values()]
    return {
        "seeds": [*map(unit_name, runs)],
        "mean": {**interval(means), "values": means},
        "deviation": {**interval(deviations), "values": deviations},
        "backward": [fmean(stage) for stage in zip(*(run.backward for run in runs.values()), strict=True)],
        "forward": [fmean(stage) for stage in zip(*(run.forward for run in runs.values()), strict=True)],
    }


def gain_tables(seeds: Mapping[Unit, SeedGains], orders: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Order to method to `gain_summary`; a method's seeds are all that it was run with."""
    table: dict[str, dict[str, Any]] = {}
    for order in orders:
        methods = dict.fromkeys(method for each in seeds.values() for method, its in each.gains if its == order)
        for method in methods:
            runs = {unit: each.gains[method, order] for unit, each in seeds.items() if (method, order) in each.gains}
            table.setdefault(order, {})[method] = gain_summary(runs)
    return table


def raw_scores(records: Records, orders: Orders) -> dict[str, dict[str, Any]]:
    """Order to its scores (Tables 9 and 10), over the seeds that all of its methods and experts have.

    Returns:
        Of each order that has any: `seeds`, their names; `experts`, sense to task to mean score; and `methods`, name
        to sense to task to mean score, stage by stage.
    """
    found = {order: _raw_scores(records, order, senses) for order, senses in orders.items()}
    return {order: scores for order, scores in found.items() if scores is not None}


def _raw_scores(records: Records, order: str, senses: Sequence[str]) -> dict[str, Any] | None:
    runs: dict[str, dict[Unit, list[dict[str, dict[str, float]]]]] = {}
    for cell in sorted(records):
        if cell.order == order and (stages := records[cell].get("stages")):
            runs.setdefault(cell.method, {})[cell.unit] = [stage_scores(stage) for stage in stages]
    experts = {cell.unit: expert_scores(records, cell.unit, order, senses) for cell in records}
    units = {unit for unit, scores in experts.items() if len(scores) == len(senses)}
    common = sorted(units.intersection(*runs.values()))
    if not runs or not common:
        return None
    methods = {
        name: [_mean_scores(stage) for stage in zip(*(by_unit[unit] for unit in common), strict=True)]
        for name, by_unit in runs.items()
    }
    return {
        "seeds": [*map(unit_name, common)], "experts": _mean_scores([experts[unit] for unit in common]),
        "methods": methods,
    }  # fmt: skip


def _mean_scores(runs: Sequence[Mapping[str, Scores]]) -> dict[str, dict[str, float]]:
    return {
        sense: {task: fmean(run[sense][task] for run in runs) for task in tasks} for sense, tasks in runs[0].items()
    }


__all__ = [
    "APART", "EXPERT", "ONE_ENCODER", "SIX", "Orders", "Records", "SeedGains", "expert", "gain_summary", "gain_tables",
    "gains_by_seed", "raw_scores",
]  # fmt: skip
