"""What the figures of COMET's cells come to, by seed: transfer, retrieval, what is kept, learned, and shared."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from statistics import fmean
from typing import Any

from polysense.recipes.cells import Cell, Unit, unit_name
from polysense.recipes.claims import interval
from polysense.recipes.code_transfer import LAST
from polysense.recipes.comet_cells import RAW, Figures, figure_name

Records = Mapping[Cell, Mapping[str, Any]]
Stage = Mapping[str, Any]

WAYS = ("video to audio", "audio to video")
TRANSFERS: Mapping[str, tuple[str, str, str]] = {
    "classification": ("classification", "test", f"accuracy, {LAST}"),
    "localisation": ("localisation", "test", f"F1, {LAST}"),
    "new combinations": ("localisation", "compositional", f"F1, {LAST}"),
}
"""Column of Table 1 to task, data set and metric, as the honest split has them."""
RECALLS = ("R@1", "R@5", "R@10")
PAIRS: Mapping[str, tuple[str, str]] = {
    "V-T": ("video", "text"), "A-T": ("audio", "text"), "I-T": ("image", "text"),
    "V-A": ("video", "audio"), "I-A": ("image", "audio"),
    "D-T": ("depth", "text"), "P-T": ("point_cloud", "text"), "Th-T": ("thermal", "text"),
}  # fmt: skip
SEEN = ("V-T", "A-T", "I-T", "D-T", "P-T", "Th-T")
MASKS = ("J", "F", "J&F")
CARRIED = "transfer above chance"
"""Mean of what the figures of Table 1 have above chance, none of them less than nothing: a head that is worse than a
constant answer carries nothing over, however much worse it is."""


def transfer_columns() -> dict[str, str]:
    """The figures that Table 1's average is of, in the order of its columns, with what these are called."""
    return {
        figure_name(f"{task} {way}", data, metric): f"{name} {_arrow(*way.split(' to '))}"
        for (name, (task, data, metric)), way in product(TRANSFERS.items(), WAYS)
    }


def recall_columns(pair: str) -> dict[str, str]:
    """The figures that the average of Tables 2, 3, 4 and 7 is of for a pair of senses, likewise."""
    a, b = PAIRS[pair]
    pool = "-".join(sense.replace("_", "-") for sense in (a, b))  # as the evaluation calls it
    return {
        figure_name(f"retrieval {first} to {then}", pool, recall): f"{_arrow(first, then)} {recall}"
        for (first, then), recall in product(((b, a), (a, b)), RECALLS)
    }


def mask_columns() -> dict[str, str]:
    """The figures of Table 5."""
    return {figure_name("segmentation text to speech", "spoken", metric): metric for metric in MASKS}


def _arrow(first: str, then: str) -> str:
    """T → V."""
    return f"{first[0].upper()} → {then[0].upper()}"


COLUMNS: Mapping[str, Mapping[str, str]] = {
    "transfer": transfer_columns(), **{pair: recall_columns(pair) for pair in PAIRS}, "segmentation": mask_columns(),
}  # fmt: skip
"""Table to its figures and their short names."""
MEASURES: Mapping[str, Sequence[str]] = {
    **{name: list(columns) for name, columns in COLUMNS.items() if name != "segmentation"},
    **{f"segmentation {metric}": [name] for name, metric in mask_columns().items()},
}
"""Name of an average to the figures that it is of."""


def chance_of(measure: str) -> str:
    """The score that an average's chance is kept under."""
    return f"chance of {measure}"


def _mean(stage: Stage, names: Sequence[str], field: str = "value") -> float | None:
    """Mean of a stage's figures; `None` where it lacks one."""
    found: Figures = stage["figures"]
    if any(name not in found for name in names):
        return None
    return fmean(float(found[name][field] or 0.0) for name in names)


def stage_scores(stage: Stage) -> dict[str, float]:
    """Every average that a stage has the figures of, its chance, and how the codes are used."""
    every = {name: names for name, names in MEASURES.items() if _mean(stage, names) is not None}
    found = {name: _mean(stage, names) or 0.0 for name, names in every.items()}
    found |= {chance_of(name): _mean(stage, names, "chance") or 0.0 for name, names in every.items()}
    if "transfer" in every:
        figures = [stage["figures"][name] for name in every["transfer"]]
        found[CARRIED] = fmean(max(0.0, float(each["value"] or 0) - float(each["chance"] or 0)) for each in figures)
    codes = stage.get("codes") or {}
    for level, share in (codes.get("active_in") or {}).items():
        found[f"codes in {level}"] = float(share)
    if codes.get("dead") is not None:
        found["dead codes"] = float(codes["dead"])
        found["perplexity"] = fmean(codes["perplexity"].values())
    found["restarts"] = float(stage["codebook"]["restarts_per_1000_steps"])
    return found


@dataclass(frozen=True)
class SeedScores:
    """What one seed's cells came to.

    Attributes:
        stages: (method, order) to the scores of its stages.
    """

    stages: Mapping[tuple[str, str], Sequence[Mapping[str, float]]]

    def has(self, methods: Iterable[str], orders: Iterable[str]) -> bool:
        """Whether every one of the methods was run in every one of the orders."""
        orders = tuple(orders)
        return all((method, order) in self.stages for method in methods for order in orders)

    def at(self, measure: str, method: str, order: str, stage: int) -> float:
        """A score after the stage of this number, from 1."""
        return self.stages[method, order][stage - 1][measure]

    def course(self, measure: str, method: str, order: str) -> list[float]:
        """A score after every stage from the one on that first had it."""
        return [stage[measure] for stage in self.stages[method, order] if measure in stage]

    def learned(self, measure: str, method: str, order: str) -> float:
        """Plasticity: the score after the stage that first had it."""
        return self.course(measure, method, order)[0]

    def excess(self, measure: str, method: str, order: str) -> list[float]:
        """What `course` has above chance."""
        chances = self.course(chance_of(measure), method, order)
        return [value - chance for value, chance in zip(self.course(measure, method, order), chances, strict=True)]

    def kept(self, measure: str, method: str, order: str) -> float:
        """Retention: what the score after the last stage has above chance, as a share of what was learned above it; 0
        where nothing was."""
        excess = self.excess(measure, method, order)
        return excess[-1] / excess[0] if excess[0] > 0 else 0.0


def scores_by_seed(records: Records) -> dict[Unit, SeedScores]:
    """The scores of all cells, by seed and parts."""
    return {
        unit: SeedScores({
            (cell.method, cell.order): [stage_scores(stage) for stage in records[cell]["stages"]]
            for cell in sorted(records) if cell.unit == unit and records[cell].get("stages")
        })
        for unit in sorted({cell.unit for cell in records if cell.method != RAW})
    }  # fmt: skip


# ---- tables ---------------------------------------------------------------------------------------------------------


def score_tables(seeds: Mapping[Unit, SeedScores]) -> dict[str, dict[str, Any]]:
    """Order to method to `seeds` and, stage by stage, every score with its mean, interval and values by seed."""
    table: dict[str, dict[str, Any]] = {}
    for method, order in dict.fromkeys(key for each in seeds.values() for key in each.stages):
        runs = {unit: each.stages[method, order] for unit, each in seeds.items() if (method, order) in each.stages}
        stages = [
            {name: _summary([stage[name] for stage in column]) for name in column[0]}
            for column in zip(*runs.values(), strict=True)
        ]
        table.setdefault(order, {})[method] = {"seeds": [*map(unit_name, sorted(runs))], "stages": stages}
    return table


def memory_table(seeds: Mapping[Unit, SeedScores]) -> dict[str, dict[str, Any]]:
    """Order to method to, for each pair that it learned, `retention` and `plasticity` over its seeds, and `chance`.

    The pair of the last stage has nothing to be forgotten by, and no retention.
    """
    table: dict[str, dict[str, Any]] = {}
    for method, order in dict.fromkeys(key for each in seeds.values() for key in each.stages):
        runs = [each for each in seeds.values() if (method, order) in each.stages]
        pairs = [pair for pair in SEEN if all(run.course(pair, method, order) for run in runs)]
        table.setdefault(order, {})[method] = {
            pair: _memory(pair, method, order, runs) for pair in pairs
        }  # fmt: skip
    return table


def _memory(pair: str, method: str, order: str, runs: Sequence[SeedScores]) -> dict[str, Any]:
    found = {
        "plasticity": _summary([run.learned(pair, method, order) for run in runs]),
        "chance": runs[0].learned(chance_of(pair), method, order),
    }
    if len(runs[0].course(pair, method, order)) > 1:
        found["retention"] = _summary([run.kept(pair, method, order) for run in runs])
    return found


def figure_table(records: Records) -> dict[str, dict[str, list[dict[str, float | None]]]]:
    """Order to method to, stage by stage, the seeds' mean of every single figure."""
    found: dict[tuple[str, str], list[Sequence[Stage]]] = {}
    for cell in sorted(records):
        if records[cell].get("stages"):
            found.setdefault((cell.order, cell.method), []).append(records[cell]["stages"])
    table: dict[str, dict[str, Any]] = {}
    for (order, method), runs in found.items():
        table.setdefault(order, {})[method] = [
            {name: _mean_of(stages, name, "value") for name in stages[0]["figures"]}
            for stages in zip(*runs, strict=True)
        ]
    return table


def references(records: Records, order: str, method: str) -> dict[str, dict[str, float | None]]:
    """Beside every figure of Table 1: chance, the bound on the codes of a method, and the bound on raw sequences."""
    stages = [record["stages"][-1] for cell, record in records.items()
              if (cell.order, cell.method) == (order, method)]  # fmt: skip
    raw: Figures = next(
        (record["raw"] for cell, record in records.items() if cell.method == RAW and not cell.order), {}
    )
    table = {}
    for name in (name for names in MEASURES.values() for name in names):
        having = [stage for stage in stages if name in stage["figures"]]
        if having:
            task, data, metric = name.split(" | ")
            kind, _, target = task.rpartition(" to ")
            own = raw.get(figure_name(f"{kind.rpartition(' ')[0]} {target} to {target}", data, metric), {})
            table[name] = {"chance": _mean_of(having, name, "chance"), "codes": _mean_of(having, name, "bound"),
                           "raw": own.get("value")}  # fmt: skip
    return table


def _mean_of(stages: Sequence[Stage], name: str, field: str) -> float | None:
    values = [stage["figures"][name][field] for stage in stages]
    return None if any(value is None for value in values) else fmean(values)


def _summary(values: Sequence[float]) -> dict[str, Any]:
    return {**interval(values), "values": list(values)}


__all__ = [
    "CARRIED", "COLUMNS", "MEASURES", "PAIRS", "SEEN", "TRANSFERS", "Records", "SeedScores", "chance_of",
    "figure_table", "mask_columns", "memory_table", "recall_columns", "references", "score_tables", "scores_by_seed",
    "stage_scores", "transfer_columns",
]  # fmt: skip
