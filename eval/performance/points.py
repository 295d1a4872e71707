"""Benchmarks P8 and P8k: farthest-point sampling and nearest neighbours beside the formulas in common use.

    python -m eval.performance.points [--repeats 9] [--out eval/reports/performance/points.json]

The peers are re-typed from the public PointNet++ code: a NumPy loop over one cloud, a torch loop over a batch, and
`cdist` with `topk`. Indices are compared before anything is timed; every repeat calls peer and ours in turn. The exit
code is 1 when a gate is missed.
"""

from __future__ import annotations

import argparse
import json
import sys
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from eval.performance.interleaved import Row, environment, interleaved
from polysense.processing import geometry

POINTS, CENTRES, NEIGHBOURS, BATCH, QUERY_CLOUDS = 8192, 512, 32, 32, 4
GATES = {"fps over numpy": 20.0, "fps over torch loop": 30.0, "knn over cdist and topk": 4.0}
PACKAGES = ("numpy", "torch", "scipy", "torch-quickfps")


def numpy_loop(cloud: geometry.Points, count: int) -> np.ndarray:
    """PointNet++'s `farthest_point_sample` in NumPy, started at point 0."""
    picked = np.zeros(count, np.int64)
    nearest = np.full(len(cloud), 1e10, np.float32)
    farthest = 0
    for i in range(count):
        picked[i] = farthest
        distances = np.sum((cloud - cloud[farthest]) ** 2, -1)
        closer = distances < nearest
        nearest[closer] = distances[closer]
        farthest = int(np.argmax(nearest))
    return picked


def torch_loop(clouds: Tensor, count: int) -> Tensor:
    """PointNet++'s `farthest_point_sample` over a batch in torch, started at point 0."""
    batch, points, _ = clouds.shape
    picked = torch.zeros(batch, count, dtype=torch.long)
    nearest = torch.full((batch, points), 1e10)
    farthest = torch.zeros(batch, dtype=torch.long)
    rows = torch.arange(batch)
    for i in range(count):
        picked[:, i] = farthest
        distances = ((clouds - clouds[rows, farthest][:, None]) ** 2).sum(-1)
        closer = distances < nearest
        nearest[closer] = distances[closer]
        farthest = nearest.max(-1).indices
    return picked


def cdist_topk(clouds: Tensor, queries: Tensor) -> Tensor:
    """All distances, then the smallest."""
    return torch.cdist(queries, clouds).topk(NEIGHBOURS, dim=-1, largest=False, sorted=True).indices


def our_batch(clouds: np.ndarray) -> np.ndarray:
    return geometry.farthest_points(clouds, CENTRES)


def our_neighbours(clouds: np.ndarray, queries: np.ndarray) -> np.ndarray:
    pairs = zip(clouds, queries, strict=True)
    return np.stack([geometry.nearest_neighbours(cloud, query, NEIGHBOURS) for cloud, query in pairs])


def check_equality(clouds: np.ndarray, queries: np.ndarray) -> None:
    """Stop unless ours and the peers give the same indices.

    `cdist` in float32 goes through a matrix product, whose rounding swaps near neighbours; the comparison is made in
    float64, the timing in float32.
    """
    ours = our_batch(clouds)
    pairs = {
        "numpy loop": (ours[0], numpy_loop(clouds[0], CENTRES)),
        "numpy fallback": (ours[0], geometry.farthest_points_numpy(clouds[0], CENTRES)),
        "torch loop": (ours, torch_loop(torch.from_numpy(clouds), CENTRES).numpy()),
        "cdist": (
            our_neighbours(clouds[:QUERY_CLOUDS], queries),
            cdist_topk(torch.from_numpy(clouds[:QUERY_CLOUDS]).double(), torch.from_numpy(queries).double()).numpy(),
        ),
    }
    for name, (mine, theirs) in pairs.items():
        if not np.array_equal(mine, theirs):
            sys.exit(f"ours and {name} disagree in {np.mean(mine != theirs):.2%} of the indices: nothing was timed")


def measure(repeats: int, seed: int) -> list[Row]:
    rng = np.random.default_rng(seed)
    clouds = np.stack([geometry.unit_sphere(rng.standard_normal((POINTS, 3))) for _ in range(BATCH)])
    queries = np.stack([cloud[rng.choice(POINTS, CENTRES, replace=False)] for cloud in clouds[:QUERY_CLOUDS]])
    check_equality(clouds, queries)
    tensors, query_tensors = torch.from_numpy(clouds), torch.from_numpy(queries)
    one, few = clouds[0], clouds[:QUERY_CLOUDS]
    return [
        interleaved("fps over numpy", lambda: numpy_loop(one, CENTRES),
                    lambda: geometry.farthest_points(one, CENTRES), repeats),
        interleaved("fps over our numpy fallback", lambda: geometry.farthest_points_numpy(one, CENTRES),
                    lambda: geometry.farthest_points(one, CENTRES), repeats),
        interleaved("fps over torch loop", lambda: torch_loop(tensors, CENTRES), lambda: our_batch(clouds), repeats),
        interleaved("knn over cdist and topk", lambda: cdist_topk(tensors[:QUERY_CLOUDS], query_tensors),
                    lambda: our_neighbours(few, queries), repeats),
    ]  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m eval.performance.points", description=__doc__)
    parser.add_argument("--repeats", type=int, default=9, help="timed calls of each side (default: 9)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("eval/reports/performance/points.json"))
    arguments = parser.parse_args()
    torch.set_num_threads(2)
    rows = measure(arguments.repeats, arguments.seed)
    failed = [row.name for row in rows if row.ratio < GATES.get(row.name, 0.0)]
    for row in rows:
        print(row.line() + (f", gate {GATES[row.name]:g}" if row.name in GATES else ""))
    report = {
        "command": "python -m eval.performance.points",
        "seed": arguments.seed,
        "environment": environment(),
        "versions": {name: version(name) for name in PACKAGES},
        "gates": GATES,
        "failed": failed,
        "rows": [row.to_dict() for row in rows],
    }
    print(json.dumps({key: report[key] for key in ("environment", "versions")}))
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(report, indent=2) + "\n")
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
