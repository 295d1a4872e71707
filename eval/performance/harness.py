"""What benchmarks of several sides share: interleaved timing, gates, and a JSON file that says how it came about.

`interleaved.py` times two sides; here any number of them take turns, so that a busy moment hits all alike.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from eval.performance.interleaved import WARM_UPS, environment

REPORTS = Path("eval/reports/performance")


@dataclass(frozen=True)
class Timing:
    """Milliseconds of one side over all repeats.

    Attributes:
        min, median: by the clock on the wall.
        cpu: least processor time of all threads together, which other programs disturb less.
    """

    min: float
    median: float
    cpu: float


def take_turns(sides: Mapping[str, Callable[[], Any]], repeats: int) -> dict[str, Timing]:
    """Call every side once per round, after two untimed rounds; the order turns by one each round."""
    times: dict[str, list[float]] = {name: [] for name in sides}
    busy: dict[str, list[float]] = {name: [] for name in sides}
    names = list(sides)
    for repeat in range(-WARM_UPS, repeats):
        turn = repeat % len(names)
        for name in names[turn:] + names[:turn]:
            begun, begun_cpu = time.perf_counter(), time.process_time()
            sides[name]()
            if repeat >= 0:
                busy[name].append(1000 * (time.process_time() - begun_cpu))
                times[name].append(1000 * (time.perf_counter() - begun))
    return {name: Timing(min(each), statistics.median(each), min(busy[name])) for name, each in times.items()}


@dataclass(frozen=True)
class Gate:
    """One figure and the bound it must keep; without a bound it is only printed."""

    name: str
    value: float
    at_least: float | None = None
    at_most: float | None = None

    @property
    def passed(self) -> bool:
        low, high = self.at_least, self.at_most
        return (low is None or self.value >= low) and (high is None or self.value <= high)

    def line(self) -> str:
        pairs = (("at least", self.at_least), ("at most", self.at_most))
        bounds = [f"{side} {bound:g}" for side, bound in pairs if bound is not None]
        verdict = (": " + ("passed" if self.passed else "MISSED") + f" ({', '.join(bounds)})") if bounds else ""
        return f"{self.name} = {self.value:.4g}{verdict}"


@dataclass
class Report:
    """What a benchmark writes to eval/reports/performance/<id>.json and prints."""

    id: str
    command: str
    seed: int
    packages: Sequence[str]
    figures: dict[str, Any] = field(default_factory=dict)
    gates: list[Gate] = field(default_factory=list)

    def write(self, folder: Path = REPORTS) -> int:
        """Print and save everything; the exit code is 1 if a gate was missed."""
        content = {
            "id": self.id,
            "command": self.command,
            "commit": _commit(),
            "seed": self.seed,
            "environment": environment() | {"blas": torch.__config__.show().split("BLAS_INFO=")[1].split(",")[0]},
            "versions": {name: version(name) for name in ("torch", *self.packages)},
            "figures": {key: _plain(value) for key, value in self.figures.items()},
            "gates": [asdict(gate) | {"passed": gate.passed} for gate in self.gates],
        }
        for name, timings in self.figures.items():
            sides = timings.items() if isinstance(timings, dict) else ()
            shown = [f"{side} {t.min:.1f} (median {t.median:.1f}, processor {t.cpu:.1f})" for side, t in sides
                     if isinstance(t, Timing)]  # fmt: skip
            if shown:
                print(name, *shown, sep="; ")
        print(*(gate.line() for gate in self.gates), sep="\n")
        print(json.dumps({key: content[key] for key in ("commit", "seed", "environment", "versions")}))
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{self.id}.json").write_text(json.dumps(content, indent=2) + "\n")
        return int(not all(gate.passed for gate in self.gates))


def require(*packages: str) -> None:
    """Stop if a peer is not installed: a comparison without its peer is no comparison."""
    for package in packages:
        try:
            version(package)
        except PackageNotFoundError:
            sys.exit(f"{package} is missing: install it, the benchmark means nothing without it")


def arguments(
    module: str, description: str | None, repeats: int, further: Mapping[str, Mapping[str, Any]] | None = None
) -> argparse.Namespace:
    """Repeats, seed, threads and output folder of a benchmark; sets the number of threads.

    Args:
        further: options of its own, each with what `add_argument` takes.
    """
    parser = argparse.ArgumentParser(prog=f"python -m {module}", description=description)
    parser.add_argument("--repeats", type=int, default=repeats, help=f"timed calls of each side (default: {repeats})")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, default=REPORTS, help="folder of the report")
    for name, options in (further or {}).items():
        parser.add_argument(name, **options)
    parsed = parser.parse_args()
    torch.set_num_threads(parsed.threads)
    torch.manual_seed(parsed.seed)
    return parsed


def _plain(value: Any) -> Any:
    if isinstance(value, Timing):
        return asdict(value)
    return {key: _plain(each) for key, each in value.items()} if isinstance(value, dict) else value


def _commit() -> str:
    done = subprocess.run(["git", "describe", "--always", "--dirty"], capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"
