"""Does plain fine-tuning forget enough, and not all? Judged before any other method of MERA's report runs.

Words and recipe are chosen on these figures, with seeds of their own. They then stand in `eval/reports/world.json`
under `mera`, beside what froze the media, and the report is made on no other world and by no other recipe:
what is measured may not choose what it is measured on.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Any

from polysense.recipes.calibration import CALIBRATION_SEEDS, read_frozen, refuse_uncalibrated
from polysense.recipes.cells import run_cells
from polysense.recipes.mera_claims import BOTH
from polysense.recipes.mera_gains import gains_by_seed, raw_scores
from polysense.recipes.mera_world import ORDERS, Setting, cells_of, setting, work
from polysense.recipes.provenance import command, commit
from polysense.storage import write_whole

KEPT = (0.4, 0.65)  # mean backward relative gain that plain fine-tuning is to keep (Table 2: 0.60 and 0.49)


def run(
    reports: Path, output: Path, *, config: str = "world", seeds: Sequence[int] = CALIBRATION_SEEDS, workers: int = 2
) -> Path:
    """Calibrate and write the key `mera` of `world.json`; its path is returned. In range are both orders or nothing.

    Raises:
        ConfigError: `world.json` is not there or cannot be read.
    """
    path = reports / "world.json"
    frozen = read_frozen(path)
    found = setting(config, output)
    does = partial(work, bases={"": found.base()}, output=found.folder)
    cells = cells_of(seeds, ["fine-tuning"])
    records = run_cells(cells, does, reports / "world" / f"mera-{found.key}", workers=workers)
    gains = gains_by_seed(records, ORDERS)
    orders: dict[str, Any] = {}
    for order in BOTH:
        kept = [each.mean("fine-tuning", order) for each in gains.values()]
        orders[order] = {"backward_gain": fmean(kept), "by_seed": kept, "in_range": KEPT[0] <= fmean(kept) <= KEPT[1]}
    frozen["mera"] = {
        "command": command(), "commit": commit(), "seeds": list(seeds), "range": list(KEPT),
        "content_hash": found.world.content_hash, "recipe": found.key, "orders": orders,
        "experts": raw_scores(records, ORDERS)[BOTH[0]]["experts"],
        "calibrated": all(entry["in_range"] for entry in orders.values()),
    }  # fmt: skip
    write_whole(path, json.dumps(frozen, indent=1) + "\n")
    return path


def check_calibrated(reports: Path, found: Setting) -> None:
    """Refuse to make a report on a world or by a recipe that was not calibrated; errors: see `refuse_uncalibrated`."""
    refuse_uncalibrated(
        reports, "mera", content_hash=found.world.content_hash, recipe=found.key,
        unseen="at how much fine-tuning forgets", judged="orders", value="backward_gain",
        missed=f"fine-tuning does not keep {KEPT[0]} to {KEPT[1]}",
    )  # fmt: skip


__all__ = ["check_calibrated", "run"]
