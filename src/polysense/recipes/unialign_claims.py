"""The claims of UniAlign's paper, each as a figure per seed that is above zero if the claim stands.

Cells are compared by `Cell.unit`: by seed, and only with such that began with the same anchor.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from statistics import fmean
from typing import Any

from polysense.recipes.cells import Cell, Unit, unit_name
from polysense.recipes.claims import NOT_MEASURED, claim, exact_claim, interval, judged, paired, unmeasured

SENSES = ("depth", "point_cloud", "video", "audio")
BOUNDS = "bounds"
"""Method of the cells that train every sense with full supervision."""
METHODS = ("joint", "incremental", "nce", "global", BOUNDS)
SHARE = (0.4, 0.8)
"""Shares of a fully supervised model between which NCE alone is to be: the world is neither too hard nor too easy."""
LEAST = 3.0  # times chance, that every added sense is to reach

Record = Mapping[str, Any]
Records = Mapping[Cell, Record]


# ---- figures of one cell --------------------------------------------------------------------------------------------


def score(record: Record, sense: str, split: str = "test") -> Mapping[str, Any]:
    """The zero-shot figure of a cell."""
    return next(
        each for each in record["results"]
        if (each["task"], each["modality"], each["metric"]) == ("zero-shot classification", sense, "top1")
        and each["dataset"].endswith(split)
    )  # fmt: skip


def top1(record: Record, sense: str, split: str = "test") -> float:
    """A sense's accuracy."""
    return float(score(record, sense, split)["value"])


def bound(record: Record, sense: str) -> float:
    """What a cell of bounds says of a sense."""
    return float(record["bounds"][sense])


def _mean_top1(record: Record) -> float:
    return fmean(top1(record, sense) for sense in SENSES)


def _times_chance(record: Record, sense: str, split: str) -> float:
    found = score(record, sense, split)
    return float(found["value"] / found["chance"])


def _above_chance(record: Record, split: str) -> float:
    found = [score(record, sense, split) for sense in SENSES]
    return float(min(each["value"] - LEAST * each["chance"] for each in found))


def _both_senses(record: Record) -> float:
    found = record["composed"]
    alone = max(found[f"text to {sense}"]["R@5"] for sense in ("audio", "video"))
    return float(found["text to audio+video"]["R@5"] - alone)


def _both_parts(record: Record) -> float:
    found = record["composed"]
    single = max(found[f"{name} to image"]["hit@5"] for name in ("depth", "colour"))
    return float(found["depth+colour to image"]["hit@5"] - single)


# ---- claims ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class ScoreClaim:
    """A claim that cells decide.

    Attributes:
        measure: what is computed, in words.
        value: the figure of one cell.
        methods: the one that it is of; or two, of which the first is claimed to be better.
    """

    measure: str
    value: Callable[[Record], float]
    methods: tuple[str, ...] = ("joint",)

    def values(self, records: Records) -> list[float]:
        """By seed: the figure, or its difference between two methods."""
        sides = [by_unit(records, method, self.value) for method in self.methods]
        return paired(sides[0], sides[1]) if len(sides) > 1 else list(sides[0].values())


CLAIMS: Mapping[str, ScoreClaim] = {
    "UA2": ScoreClaim(
        measure="worst sense's top-1 minus three times chance", value=partial(_above_chance, split="test")
    ),
    "UA2 (compositional)": ScoreClaim(
        measure="the same on combinations that no training sample has",
        value=partial(_above_chance, split="compositional"),
    ),
    "UA6": ScoreClaim(
        measure="grouping minus global routing, mean top-1", value=_mean_top1, methods=("joint", "global")
    ),
    "UA9": ScoreClaim(
        measure="with minus without soft binding, mean top-1", value=_mean_top1, methods=("joint", "nce")
    ),
    "UA14 (A+V)": ScoreClaim(measure="text to A+V minus the better single sense, R@5", value=_both_senses),
    "UA14 (Fig. 5)": ScoreClaim(measure="depth + colour minus the better part, hit@5", value=_both_parts),
}
COMPARED: Mapping[str, tuple[str, ...]] = {
    name: each.methods for name, each in CLAIMS.items() if len(each.methods) > 1
}
"""Claims that compare two methods: while undecided, these methods are run with more seeds."""


def by_unit(records: Records, method: str, value: Callable[[Record], float]) -> dict[Unit, float]:
    """A figure of all cells of a method, by their seed and the anchor that they began with."""
    return {cell.unit: value(records[cell]) for cell in sorted(records) if cell.method == method}


def claims(records: Records, cost: Mapping[str, Any] | None) -> dict[str, dict[str, Any]]:
    """Every claim with its figures by seed, their interval and the verdict; or what is missing.

    Args:
        records: all cells.
        cost: FLOPs and bytes of `unialign_world.cost_of_senses`, if there ever was an anchor to count them on.
    """
    table = {name: _judged(each, records) for name, each in CLAIMS.items()}
    measure = "FLOPs and bytes of encoding one sense with 8 senses in the model, divided by those with 2"
    if cost is None:
        table["UA15"] = unmeasured(measure, "no anchor is there whose senses could be counted")
    else:
        ratios = [cost["flops_ratio"], cost["bytes_ratio"]]
        table["UA15"] = exact_claim(measure, ratios, holds=ratios == [1, 1])
    return table


def _judged(each: ScoreClaim, records: Records) -> dict[str, Any]:
    if values := each.values(records):
        return claim(each.measure, values)
    there = {cell.method for cell in records}
    lacking = [method for method in each.methods if method not in there] or ["a common seed"]
    return unmeasured(each.measure, f"no seed has all of its methods; missing: {', '.join(lacking)}")


# ---- what lies behind them ------------------------------------------------------------------------------------------


def row(values: Mapping[Unit, float]) -> dict[str, Any]:
    """Figures by seed with their mean and interval."""
    return {"seeds": [*map(unit_name, values)], **interval([*values.values()]), "values": [*values.values()]}


def sense_table(records: Records) -> dict[str, dict[str, Any]]:
    """Sense to `bound`, and by split to every method that was run, beside `chance`.

    A method's `share_of_bound` is the mean over the seeds that have both.
    """
    scored = [cell for cell in sorted(records) if cell.method != BOUNDS]
    methods = [method for method in METHODS if method in {cell.method for cell in scored}]
    table: dict[str, dict[str, Any]] = {}
    for sense in SENSES if scored else ():
        bounds = by_unit(records, BOUNDS, partial(bound, sense=sense))
        table[sense] = {"bound": row(bounds)}
        for split in ("test", "compositional"):
            found = {method: by_unit(records, method, partial(top1, sense=sense, split=split)) for method in methods}
            rows: dict[str, Any] = {method: row(values) for method, values in found.items()}
            if split == "test":
                for method, values in found.items():
                    shares = _shares(values, bounds)
                    rows[method]["share_of_bound"] = fmean(shares.values()) if shares else None
            table[sense][split] = {**rows, "chance": score(records[scored[0]], sense, split)["chance"]}
    return table


def _shares(values: Mapping[Unit, float], bounds: Mapping[Unit, float]) -> dict[Unit, float]:
    """Values as shares of their bounds; of a bound that gets nothing right there is no share."""
    return {unit: value / bounds[unit] for unit, value in values.items() if bounds.get(unit)}


def by_sense(records: Records) -> dict[str, dict[str, dict[str, float | None]]]:
    """Where compared methods differ: mean and 90 % interval of the paired difference of every sense's top-1.

    Claims whose methods have no seed in common are left out.
    """
    table: dict[str, dict[str, dict[str, float | None]]] = {}
    for name, methods in COMPARED.items():
        for sense in SENSES:
            better, worse = (by_unit(records, method, partial(top1, sense=sense)) for method in methods)
            if values := paired(better, worse):
                table.setdefault(name, {})[sense] = interval(values)
    return table


def held_to(records: Records) -> dict[str, Any]:
    """What every sense is held to, with means and intervals over the seeds, and verdicts.

    Returns:
        `nce_share`: sense to NCE alone as a share of full supervision, which is to lie within `SHARE`; `times_chance`:
        split to method and sense to top-1 divided by chance, which is to reach `LEAST`.
    """
    shares: dict[str, Any] = {}
    for sense in SENSES:
        bounds = by_unit(records, BOUNDS, partial(bound, sense=sense))
        reached = _shares(by_unit(records, "nce", partial(top1, sense=sense)), bounds)
        shares[sense] = _held(reached, lambda value: min(value - SHARE[0], SHARE[1] - value))
    times: dict[str, dict[str, dict[str, Any]]] = {}
    for split in ("test", "compositional"):
        for method in ("joint", "incremental"):
            for sense in SENSES:
                values = by_unit(records, method, partial(_times_chance, sense=sense, split=split))
                held = _held(values, lambda value: value - LEAST)
                times.setdefault(split, {}).setdefault(method, {})[sense] = held
    return {"range": list(SHARE), "nce_share": shares, "least": LEAST, "times_chance": times}


def _held(values: Mapping[Unit, float], margin: Callable[[float], float]) -> dict[str, Any]:
    verdict = judged([margin(value) for value in values.values()]) if values else NOT_MEASURED
    return {**row(values), "verdict": verdict}


__all__ = [
    "BOUNDS", "CLAIMS", "COMPARED", "LEAST", "METHODS", "SENSES", "SHARE", "Records", "by_sense", "by_unit", "claims",
    "held_to", "score", "sense_table",
]  # fmt: skip
