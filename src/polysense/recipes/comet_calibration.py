"""Do the phenomena that COMET is about appear in the world at all? Judged on methods without it, before any report.

Media and narration are frozen on these figures, with seeds of their own: transfer without pairs, what Cross-CPC is
for, and what later stages forget. They stand in `eval/reports/world.json` under `comet`, and the report is made on no
other world and by no other recipe: what is measured may not choose what it is measured on.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from polysense.recipes.calibration import CALIBRATION_SEEDS, read_frozen, refuse_uncalibrated
from polysense.recipes.cells import Cell, finished_cells
from polysense.recipes.comet_cells import Setting, figure_name, setting
from polysense.recipes.comet_scores import TRANSFERS, Records, scores_by_seed
from polysense.recipes.comet_variants import FIRST
from polysense.recipes.comet_world import Bench
from polysense.recipes.provenance import command, commit
from polysense.storage import write_whole

TRANSFER = 2.0  # times chance, that DCID's labels of films are to be worth on sounds; the paper's are several
WITHOUT = 0.5  # of that excess over chance, that may be left without Cross-CPC
KEPT = 0.6  # of its first stage's retrieval of video and text, that DCID may keep (Table 2: 0.23 and 0.85)
_DCID, _WITHOUT = "dcid", "dcid-no-contrast"
_STAGE = 2  # the first with sounds


def run(
    reports: Path, output: Path, *, config: str = "world", seeds: Sequence[int] = CALIBRATION_SEEDS, workers: int = 2
) -> Path:
    """Calibrate and write the key `comet` of `world.json`; its path is returned.

    Raises:
        ConfigError: `world.json` is not there or cannot be read.
    """
    path = reports / "world.json"
    frozen = read_frozen(path)
    found = setting(config, output)
    bench = Bench(found=found, reports=reports, place="world/comet", workers=workers)
    bench.compute([Cell(method, seed, FIRST) for seed in seeds for method in (_DCID, _WITHOUT)])
    figures = measured(finished_cells(bench.folder(found)), seeds)
    frozen["comet"] = {
        "command": command(), "commit": commit(), "seeds": list(seeds), "content_hash": found.world.content_hash,
        "recipe": found.key, "figures": figures, "calibrated": all(each["in_range"] for each in figures.values()),
    }  # fmt: skip
    write_whole(path, json.dumps(frozen, indent=1) + "\n")
    return path


def measured(records: Records, seeds: Sequence[int]) -> dict[str, dict[str, Any]]:
    """What is judged: each figure with its limit, mean, values by seed, and whether it is in range."""
    scores = scores_by_seed(records)
    transfer, left, kept = [], [], []
    for seed, parts in (unit for unit in scores if unit[0] in seeds):
        value, chance = _transfer(records[Cell(_DCID, seed, FIRST, parts)])
        bare, level = _transfer(records[Cell(_WITHOUT, seed, FIRST, parts)])
        transfer.append(value / chance)
        left.append((bare - level) / (value - chance) if value > chance else 1.0)
        kept.append(scores[seed, parts].kept("V-T", _DCID, FIRST))
    return {
        "DCID's transfer from video to audio, times chance": _judged(transfer, TRANSFER, above=True),
        "share of its excess that is left without Cross-CPC": _judged(left, WITHOUT, above=False),
        "share of video-text retrieval that DCID keeps": _judged(kept, KEPT, above=False),
    }


def _transfer(record: Mapping[str, Any]) -> tuple[float, float]:
    """Accuracy on sounds of a head that learned from films, and chance."""
    task, data, metric = TRANSFERS["classification"]
    figure = record["stages"][_STAGE - 1]["figures"][figure_name(f"{task} video to audio", data, metric)]
    return float(figure["value"]), float(figure["chance"])


def _judged(values: Sequence[float], limit: float, *, above: bool) -> dict[str, Any]:
    mean = fmean(values)
    fine = mean >= limit if above else mean < limit
    return {"at least" if above else "below": limit, "mean": mean, "by_seed": list(values), "in_range": fine}


def check_calibrated(reports: Path, found: Setting) -> None:
    """Refuse to make a report on a world or by a recipe that was not calibrated; errors: see `refuse_uncalibrated`."""
    refuse_uncalibrated(
        reports, "comet", content_hash=found.world.content_hash, recipe=found.key,
        unseen="whether codes transfer and are forgotten", judged="figures", value="mean", missed="out of range",
    )  # fmt: skip


__all__ = ["check_calibrated", "measured", "run"]
