"""Run the fault classes, write their report: `python -m tests.faults [--share 1.0] [--seed 0] [--report FOLDER]`."""

from __future__ import annotations

import argparse
import errno
import json
import logging
import os
import platform
import shlex
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import numpy as np
import torch

from tests.faults import comet_kills, mera_kills, unialign_kills
from tests.faults.bad_media import bad_media
from tests.faults.comet_run import comet_run
from tests.faults.corruption import DAMAGES, damage_newest
from tests.faults.disk import failing_writes
from tests.faults.harness import FaultReport
from tests.faults.kills import kills_inside_saves, random_kills, stop_requests
from tests.faults.mera_run import mera_runs
from tests.faults.recipe_kills import Moment, kills_in, random_kills_of
from tests.faults.recipe_run import RecipeRun
from tests.faults.unialign_run import unialign_run

Measure = Callable[[], FaultReport]

SETS = ("training", "unialign", "comet", "mera", "media")
COLUMNS = ("name", "injected", "detected", "lost", "silent", "worst_seconds")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--share", type=float, default=1.0, help="share of the full set, 0 to 1 (default: all)")
    parser.add_argument("--seed", type=int, default=0, help="seed of instants, places and bits")
    parser.add_argument("--report", type=Path, default=Path("eval/reports/faults"), help="folder of the report")
    parser.add_argument("--sets", nargs="+", choices=SETS, default=SETS, help="classes of faults (default: all)")
    arguments = parser.parse_args()
    torch.set_num_threads(1)  # forked children must not inherit a pool of threads that no longer exists
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    logging.disable(logging.ERROR)
    begun = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        reports = run(Path(folder), arguments.share, arguments.seed, arguments.sets)
    write(arguments.report, reports, arguments, time.monotonic() - begun)
    return int(any(report.lost or report.silent or report.detected < report.injected for report in reports))


def run(folder: Path, share: float, seed: int, sets: Sequence[str]) -> list[FaultReport]:
    """Every class of some sets in turn; each line is printed as it is known."""
    named = {
        "training": training_faults, "unialign": unialign_faults, "comet": comet_faults, "mera": mera_faults,
        "media": media_faults,
    }  # fmt: skip
    reports = []
    with ExitStack() as stack:
        for name in sets:
            for measure in named[name](folder, share, seed, stack):
                report = measure()
                sys.stdout.write(report.line() + "\n")
                sys.stdout.flush()
                reports.append(report)
    return reports


def training_faults(folder: Path, share: float, seed: int, stack: ExitStack) -> list[Measure]:
    """Of the loop, on the toy."""
    some, stride = partial(_share_of, share), max(1, round(1 / share))
    first = 1 + seed % stride
    return [
        partial(random_kills, folder / "kills", some(40), seed),
        partial(kills_inside_saves, folder / "saves", some(20), seed),
        partial(stop_requests, folder / "stops", some(20), seed),
        *(partial(damage_newest, folder / "damages", name, some(150), seed) for name in DAMAGES),
        partial(failing_writes, folder / "full", errno.ENOSPC, first, stride),
        partial(failing_writes, folder / "broken", errno.EIO, first, stride),
    ]


def unialign_faults(folder: Path, share: float, seed: int, stack: ExitStack) -> list[Measure]:
    """Of UniAlign's recipe: a small share of them draws some of the phases."""
    run = unialign_run(folder / "unialign")
    return _kills(unialign_kills.MOMENTS, {run.method: run}, folder / "unialign", share, seed)


def comet_faults(folder: Path, share: float, seed: int, stack: ExitStack) -> list[Measure]:
    """Of COMET's recipe: a small share of them draws some of the phases."""
    run = comet_run(folder / "comet")
    return _kills(comet_kills.MOMENTS, {run.method: run}, folder / "comet", share, seed)


def mera_faults(folder: Path, share: float, seed: int, stack: ExitStack) -> list[Measure]:
    """Of MERA's recipe: a small share of them draws some of the phases, all of the methods."""
    runs = stack.enter_context(mera_runs(folder / "mera"))
    return _kills(mera_kills.MOMENTS, runs, folder / "mera", share, seed)


def _kills(
    moments: Sequence[Moment], runs: Mapping[str, RecipeRun], place: Path, share: float, seed: int
) -> list[Measure]:
    """Of a recipe's runs, in moments that are drawn where the share is small, and at random instants."""
    some = partial(_share_of, share)
    drawn = np.random.default_rng(seed).permutation(len(moments))[: max(3, some(2 * len(moments)))]
    phases = [moments[index] for index in sorted(drawn)]
    return [
        *(partial(kills_in, moment, runs[moment.method], place, some(10), seed) for moment in phases),
        *(partial(random_kills_of, run, place, some(10), seed) for run in runs.values()),
    ]


def media_faults(folder: Path, share: float, seed: int, stack: ExitStack) -> list[Measure]:
    """Of files that cannot be used."""
    return [partial(bad_media, folder / "media", _share_of(share, 1000), seed)]


def _share_of(share: float, count: int) -> int:
    return max(1, round(share * count))


def write(folder: Path, reports: list[FaultReport], arguments: argparse.Namespace, seconds: float) -> None:
    """`faults.json` and `faults.md` in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    command = shlex.join(
        ["python", "-m", "tests.faults", "--share", str(arguments.share), "--seed", str(arguments.seed)]
    )
    summary = {
        "command": command,
        "seconds": round(seconds, 1),
        "versions": {"python": platform.python_version(), "torch": torch.__version__},
        "classes": [report.to_dict() for report in reports],
    }
    (folder / "faults.json").write_text(json.dumps(summary, indent=1) + "\n")
    rows = [" | ".join(COLUMNS), " | ".join("---" for _ in COLUMNS)]
    rows += [" | ".join(f"{getattr(report, column):.4g}" for column in COLUMNS[1:]) for report in reports]
    rows[2:] = [f"{report.name} | {row}" for report, row in zip(reports, rows[2:], strict=True)]
    table = "\n".join(f"| {row} |" for row in rows)
    (folder / "faults.md").write_text(f"# Faults\n\n`{command}` ({seconds:.0f} s)\n\n{table}\n")


if __name__ == "__main__":
    sys.exit(main())
