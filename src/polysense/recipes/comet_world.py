"""COMET reproduced on the embedded world: rivals with and without it, each of its parts removed, and controls.

Cells of a seed share a folder, so that equal stages are trained once. What is finished is kept: the report may be made
in several sittings, and says of a claim whose cells are missing that it was not measured.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from polysense.recipes.cells import ALL, Cell, Chosen, finished_cells, parts_name, read_cell, run_cells, unit_name
from polysense.recipes.claims import NOT_MEASURED, write_report
from polysense.recipes.comet_cells import RAW, Setting, setting, work
from polysense.recipes.comet_claims import WORDS, score_claims, undecided_cells
from polysense.recipes.comet_scores import (
    COLUMNS,
    Records,
    figure_table,
    memory_table,
    references,
    score_tables,
    scores_by_seed,
)
from polysense.recipes.comet_variants import (
    COMPARED,
    CONFIGS,
    EVERY_ORDER,
    FIRST,
    FRESH,
    METHODS,
    NUMBERS,
    ORDERS,
    REMOVALS,
    SECOND,
    SETTINGS,
    SPOKEN,
    cells_of,
    extra_cells,
    fresh_cells,
    full,
    with_experts,
    without,
)
from polysense.recipes.provenance import command, commit
from polysense.report import plot_transfer, transfer_markdown

SEEDS, MORE_SEEDS = (0, 1, 2), (3, 4, 5)


@dataclass(frozen=True, kw_only=True)
class Bench:
    """Where cells are computed and kept.

    Attributes:
        found: the setting of the report's own recipe; orders of other configs and worlds have another.
        reports: folder of reports.
        config: name of the recipe.
        place: of the cells in it; those of every recipe have a folder there.
        only: those that may be computed.
        workers: processes side by side.
    """

    found: Setting
    reports: Path
    config: str = "world"
    place: str = "comet-world"
    only: Chosen = ALL
    workers: int = 2

    def folder(self, found: Setting) -> Path:
        """Where the cells of a setting are kept."""
        return self.reports / self.place / found.key

    def of_order(self, order: str) -> tuple[Setting, Path]:
        """The setting of an order, and the folder of its cells. A fresh world's stay with the recipe's own."""
        if order in CONFIGS:
            other = setting(CONFIGS[order], self.found.output)
            return other, self.folder(other)
        if order in FRESH:
            fresh = setting(self.config, self.found.output, [f"data.world.seed={FRESH[order]}"])
            return fresh, self.folder(self.found)
        return self.found, self.folder(self.found)

    def compute(self, cells: Iterable[Cell]) -> None:
        """Compute the missing ones of these cells, as far as their methods may be computed.

        Raises: see `run_cells`.
        """
        of_setting: dict[str, list[Cell]] = {}
        for cell in cells:
            if cell in self.only:
                of_setting.setdefault(cell.order if cell.order in {*CONFIGS, *FRESH} else "", []).append(cell)
        for order, wanted in of_setting.items():
            found, folder = self.of_order(order)
            base = found.base()
            does, parts = partial(work, base=base, output=found.folder), parts_name([Path(base.data.nets)])
            own = [replace(cell, parts=parts) for cell in wanted]
            if any(read_cell(folder, cell) is None for cell in own):
                raw = Cell(RAW, 0, order, parts)
                run_cells([raw], does, folder, workers=1)  # all others read what this one extracts
                run_cells(own, does, folder, workers=self.workers)

    def records(self) -> dict[Cell, dict[str, Any]]:
        """Everything that is finished, whoever computed it."""
        found: dict[Cell, dict[str, Any]] = {}
        for order in CONFIGS:
            _, folder = self.of_order(order)
            found |= {cell: record for cell, record in finished_cells(folder).items() if cell.method != RAW}
        return {**found, **finished_cells(self.folder(self.found))}


def run(
    reports: Path, output: Path, check: Callable[[Setting], None], *, config: str = "world",
    only: Chosen = ALL, seeds: Sequence[int] = SEEDS, beyond: bool = False, workers: int = 2,
) -> Path:  # fmt: skip
    """Run the missing cells and write `comet-world.json`, its tables (.md) and plots (.png); the path is returned.

    Args:
        reports: folder of reports; cells go to `reports/comet-world`, by recipe and world.
        output: folder for checkpoints, worlds, nets and sequences.
        check: refuses a world or a recipe that is not the calibrated one (`comet_calibration.check_calibrated`).
        only: compute these alone; without a method, only report on what is there.
        seeds: of every method; those whose comparison they leave undecided get `MORE_SEEDS`.
        beyond: also another mediator, and a chain of six senses, on the first seed; the module `thermal`, which
            registers the last, has to be importable.

    Raises:
        ConfigError: an unknown method or order.
    """
    only.check(METHODS, EVERY_ORDER)
    found = setting(config, output)
    check(found)
    bench = Bench(found=found, reports=reports, config=config, only=only, workers=workers)
    bench.compute(cells_of(seeds))
    bench.compute(undecided_cells(score_claims(scores_by_seed(bench.records())), MORE_SEEDS))
    bench.compute(fresh_cells())
    bench.compute(extra_cells(seeds[0], beyond=beyond))
    report = summary(bench.records())
    return write_report(reports / "comet-world.json", report, transfer_markdown(report), plot_transfer(report))


def summary(records: Records) -> dict[str, Any]:
    """Everything that the report's JSON, tables and plots are made of."""
    seeds = scores_by_seed(records)
    last = {method: references(records, FIRST, method) for method in COMPARED}
    parts = {f"Each part removed, {WORDS[setting]}": removed(setting) for setting in SETTINGS}
    experts = {
        WORDS[setting]: {str(number): with_experts(setting, number) for number in NUMBERS} for setting in SETTINGS
    }
    together = {**parts, **{words: list(methods.values()) for words, methods in experts.items()}}
    return {
        "command": command(), "commit": commit(), "main": [FIRST, SECOND], "spoken": SPOKEN,
        "seeds": [*map(unit_name, sorted(seeds))],
        "orders": {name: list(pairs) for name, pairs in ORDERS.items()},
        "methods": {name: method.label for name, method in METHODS.items()},
        "rows": {
            "compared": list(COMPARED), "spoken": ["dcid", *map(full, SETTINGS)],
            "removed": parts, "experts": experts,
        },
        "common": {words: of_common_seeds(records, methods) for words, methods in together.items()},
        "columns": COLUMNS, "scores": score_tables(seeds), "memory": memory_table(seeds),
        "figures": figure_table(records), "references": {name: each for name, each in last.items() if each},
        "claims": score_claims(seeds), "fresh": {"worlds": FRESH, "claims": fresh_claims(records)},
    }  # fmt: skip


def of_common_seeds(records: Records, methods: Sequence[str]) -> dict[str, Any]:
    """Figures and scores in the first order, of the seeds that all of these methods have that were run at all."""
    units = [{cell.unit for cell in records if (cell.method, cell.order) == (name, FIRST)} for name in methods]
    measured = [each for each in units if each]
    shared = set.intersection(*measured) if measured else set()
    kept = {cell: record for cell, record in records.items()
            if cell.order == FIRST and cell.method in methods and cell.unit in shared}  # fmt: skip
    return {"figures": figure_table(kept), "scores": score_tables(scores_by_seed(kept))}


def fresh_claims(records: Records) -> dict[str, Any]:
    """The claims that worlds of other seeds can judge, with one value from each of these."""
    fresh = {replace(cell, order=FIRST): record for cell, record in records.items() if cell.order in FRESH}
    judged = score_claims(scores_by_seed(fresh))
    return {name: each for name, each in judged.items() if each["verdict"] != NOT_MEASURED}


def removed(setting: str) -> list[str]:
    """Rows of Tables 6 and 8: a part gone in each, then none and all of COMET."""
    return [*(without(setting, part) for part in REMOVALS), "dcid", full(setting)]


__all__ = ["MORE_SEEDS", "SEEDS", "Bench", "run", "summary"]
