"""Is the world hard enough to tell methods apart, and not too hard? Judged on NCE alone beside full supervision.

Difficulty is chosen on these figures, with seeds of their own, and the world is then frozen: its hash stands in
`eval/reports/world.json`, and no report may be made on another: what is measured may not choose it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Any

from polysense.errors import ConfigError
from polysense.recipes.cells import Cell, run_cells, settings_key
from polysense.recipes.config import read_config
from polysense.recipes.provenance import command, commit
from polysense.recipes.unialign import UniAlignRecipe, UniAlignRun
from polysense.recipes.unialign_claims import SENSES, SHARE, score
from polysense.recipes.unialign_world import work
from polysense.storage import write_whole
from polysense.world import WorldSummary, load_world, manifest_digests

CALIBRATION_SEEDS = (100, 101)


def run(reports: Path, output: Path, *, config: str = "world", seeds: Sequence[int] = CALIBRATION_SEEDS) -> Path:
    """Calibrate and write `world.json`; its path is returned. It counts as frozen if every sense is in range.

    What other systems have put there stays: each says itself which world and recipe it holds for.
    """
    path = reports / "world.json"
    before = read_frozen(path) if path.exists() else {}
    base = read_config(UniAlignRecipe, "unialign", config, [f"data_root={output / 'world'}"])
    anchor = UniAlignRun(replace(base, bounds=0), output).anchor
    base = replace(base, anchor=str(anchor), world=None)
    cells = [Cell(method, seed) for seed in seeds for method in ("bounds", "nce")]
    world = load_world(output / "world")
    key = settings_key(base, world.content_hash)
    records = run_cells(cells, partial(work, base=base, output=output / key), reports / "world" / key)
    senses: dict[str, Any] = {}
    for sense in SENSES:
        shares = []
        for seed in seeds:
            bound = float(records[Cell("bounds", seed)]["bounds"][sense])
            shares.append(float(score(records[Cell("nce", seed)], sense)["value"]) / bound)
        senses[sense] = {"share_of_bound": fmean(shares), "by_seed": shares,
                         "in_range": SHARE[0] <= fmean(shares) <= SHARE[1]}  # fmt: skip
    record = {
        "command": command(), "commit": commit(), "seeds": list(seeds), "range": list(SHARE),
        "content_hash": world.content_hash, "manifests": manifest_digests(world), "config": world.config.to_dict(),
        "senses": senses, "frozen": all(entry["in_range"] for entry in senses.values()),
    }  # fmt: skip
    write_whole(path, json.dumps({**before, **record}, indent=1) + "\n")
    return path


def read_frozen(path: Path) -> dict[str, Any]:
    """What `world.json` says, to which systems add what they rest on.

    Raises:
        ConfigError: it is not there or cannot be read.
    """
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError) as error:
        raise ConfigError(f"the record of the frozen world cannot be read ({error})", where=path,
                          fix="Run eval/calibrate.py first.") from error  # fmt: skip


def refuse_uncalibrated(
    reports: Path, system: str, *, content_hash: str, recipe: str, unseen: str, judged: str, value: str, missed: str
) -> None:
    """Refuse to make a report on a world or by a recipe that was not calibrated, is out of range, or changed since.

    Args:
        system: its key in `world.json`, and the name of its script.
        unseen: what nobody has looked at where it is missing.
        judged: key of the figures that are to be in range, and `value`, of the number in each.
        missed: what figures out of range do not do, in words.

    Raises:
        ConfigError: it was not calibrated, what differs, or which figures are out of range.
    """
    path, again = reports / "world.json", f"Run eval/calibrate_{system}.py, and then every report that rests on it."
    record: dict[str, Any] | None = read_frozen(path).get(system)
    if record is None:
        raise ConfigError(f"nobody has looked yet {unseen}", where=path, fix=again)
    for name, ours in (("content_hash", content_hash), ("recipe", recipe)):
        if record[name] != ours:
            raise ConfigError(f"the {name} is {ours[:12]}, the calibrated one {record[name][:12]}", where=path,
                              fix=again)  # fmt: skip
    if not record["calibrated"]:
        outside = [f"{name} ({each[value]:.2f})" for name, each in record[judged].items() if not each["in_range"]]
        raise ConfigError(f"{missed}: {', '.join(outside)}", where=path,
                          fix=f"Change recipe or data, then run eval/calibrate_{system}.py again.")  # fmt: skip


def check_frozen(reports: Path, world: WorldSummary) -> None:
    """Refuse to make a report on a world that was not calibrated, is out of range, or changed since.

    Raises:
        ConfigError: naming both hashes, the manifests that say something else, or the senses that are out of range.
    """
    path = reports / "world.json"
    record: dict[str, Any] = {"content_hash": "none"}
    if path.exists():
        record = read_frozen(path)
    if not record.get("frozen", True):
        outside = [sense for sense, entry in record["senses"].items() if not entry["in_range"]]
        raise ConfigError(f"the world is not frozen: {', '.join(outside)} out of range", where=path,
                          fix="Change the difficulty, then run eval/calibrate.py again.")  # fmt: skip
    frozen = record["content_hash"]
    if frozen != world.content_hash:
        raise ConfigError(f"the world has the content {world.content_hash[:12]}, the frozen one {frozen[:12]}",
                          where=path, fix="Run eval/calibrate.py again, and then every report.")  # fmt: skip
    kept = record.get("manifests")  # of what was generated, which the hash of config and version cannot vouch for
    if kept is not None and kept != (found := manifest_digests(world)):
        differ = sorted(name for name in {*kept, *found} if kept.get(name) != found.get(name))
        raise ConfigError(f"the world's manifests differ from the frozen one's ({', '.join(differ[:3])})", where=path,
                          fix="If the generator changed, raise VERSION in world/config.py; else build the world "
                          "again, or run eval/calibrate.py and every report on this machine.")  # fmt: skip
