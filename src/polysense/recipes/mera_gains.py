"""What MERA's cells scored, as relative gains by seed, and summarised over seeds (MERA, section 5.1)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from polysense.metrics import RelativeGains, relative_gains
from polysense.metrics.gains import Scores
from polysense.recipes.answering import ANSWERING, CAPTIONING
from polysense.recipes.cells import Cell, Unit
from polysense.recipes.claims import interval

EXPERT = "expert"
"""Method of the cells that learn one sense alone; their order is that sense, after `ORDER-` if it is of that order's
own recipe."""

Records = Mapping[Cell, Mapping[str, Any]]
Orders = Mapping[str, Sequence[str]]


def stage_scores(stage: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    """Sense to task to score, of one stage of a cell."""
    found: dict[str, dict[str, float]] = {}
    for each in stage["results"]:
        if each["task"] in (CAPTIONING, ANSWERING):
            found.setdefault(each["modality"], {})[each["task"]] = float(each["value"])
    return found


def own_expert(order: str, sense: str, seed: int) -> Cell:
    """The expert of a sense by the recipe of an order that has one of its own."""
    return Cell(EXPERT, seed, f"{order}-{sense}")


def expert_scores(records: Records, unit: Unit, order: str = "") -> dict[str, Scores]:
    """Sense to its expert's scores, for one seed and its parts; of an order's own experts if it has any."""
    experts = [cell for cell in sorted(records) if cell.method == EXPERT and cell.unit == unit]
    own = [cell for cell in experts if order and cell.order.startswith(f"{order}-")]
    found: dict[str, Scores] = {}
    for cell in own or [cell for cell in experts if "-" not in cell.order]:
        sense = cell.order.rpartition("-")[2]
        found[sense] = stage_scores(records[cell]["stages"][-1])[sense]
    return found


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
            order, experts = orders.get(cell.order, ()), expert_scores(records, unit, cell.order)
            if cell.unit == unit and cell.method != EXPERT and order and set(order) <= experts.keys():
                stages = [stage_scores(stage) for stage in records[cell].get("stages", ())]
                if stages:
                    gains[cell.method, cell.order] = relative_gains(order, stages, experts)
        found[unit] = SeedGains(gains)
    return found


def gain_summary(runs: Sequence[RelativeGains]) -> dict[str, Any]:
    """One method in one order over its seeds.

    Returns:
        `mean` and `deviation` of the backward gain over the stages, each with mean, interval and values by seed; and
        the seeds' mean of `backward` and `forward` gain by stage.
    """
    means, deviations = [run.backward_mean for run in runs], [run.backward_deviation for run in runs]
    return {
        "mean": {**interval(means), "values": means},
        "deviation": {**interval(deviations), "values": deviations},
        "backward": [fmean(stage) for stage in zip(*(run.backward for run in runs), strict=True)],
        "forward": [fmean(stage) for stage in zip(*(run.forward for run in runs), strict=True)],
    }


def gain_tables(seeds: Mapping[Unit, SeedGains], orders: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Order to method to `gain_summary`; a method's seeds are all that it was run with."""
    table: dict[str, dict[str, Any]] = {}
    for order in orders:
        methods = dict.fromkeys(method for each in seeds.values() for method, its in each.gains if its == order)
        for method in methods:
            runs = [each.gains[method, order] for each in seeds.values() if (method, order) in each.gains]
            table.setdefault(order, {})[method] = gain_summary(runs)
    return table


def raw_scores(records: Records, orders: Orders) -> dict[str, dict[str, list[dict[str, dict[str, float]]]]]:
    """Order to method to, stage by stage, the seeds' mean score of every sense and task (Tables 9 and 10)."""
    table: dict[str, dict[str, list[Any]]] = {}
    for order in orders:
        for method in dict.fromkeys(cell.method for cell in sorted(records) if cell.order == order):
            cells = [cell for cell in sorted(records) if (cell.method, cell.order) == (method, order)]
            runs = [[stage_scores(stage) for stage in records[cell].get("stages", ())] for cell in cells]
            if all(runs):
                table.setdefault(order, {})[method] = [_mean_scores(stage) for stage in zip(*runs, strict=True)]
    return table


def mean_experts(records: Records, order: str = "") -> dict[str, dict[str, float]]:
    """Sense to task to the experts' mean score over the seeds; of an order's own experts if it has any."""
    by_sense: dict[str, list[Mapping[str, Scores]]] = {}
    for unit in sorted({cell.unit for cell in records}):
        for sense, scores in expert_scores(records, unit, order).items():
            by_sense.setdefault(sense, []).append({sense: scores})
    return {sense: _mean_scores(runs)[sense] for sense, runs in by_sense.items()}


def _mean_scores(runs: Sequence[Mapping[str, Scores]]) -> dict[str, dict[str, float]]:
    return {
        sense: {task: fmean(run[sense][task] for run in runs) for task in tasks} for sense, tasks in runs[0].items()
    }


__all__ = ["EXPERT", "Orders", "Records", "SeedGains", "gain_summary", "gain_tables", "gains_by_seed", "own_expert"]
