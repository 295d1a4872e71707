"""Benchmark P3: one training step of the codebook beside vector-quantize-pytorch, and beside faiss's search alone.

    python -m eval.performance.codebook [--repeats 9] [--threads 2] [--out eval/reports/performance]

16,384 vectors of width 256, 400 and 2,048 codes, decay 0.99, forward pass with the moving averages and without
restarts, float32. Codes and averages are compared with the peer's first, faiss's neighbours with ours. The exit code
is 1 when a gate is missed.
"""

from __future__ import annotations

import copy
import sys
from typing import Any

import faiss
import torch
from torch import Tensor
from vector_quantize_pytorch import VectorQuantize

from eval.performance.harness import Gate, Report, arguments, require, take_turns
from polysense.nn import Codebook, CodebookOptions

ROWS, DIM, SIZES = 16_384, 256, (400, 2_048)


def ours(codes: Tensor) -> Codebook:
    """In training mode, with the given codes."""
    made = Codebook(len(codes), codes.shape[1], CodebookOptions(restart_after=0))
    made.put(slice(None), codes)
    return made


def peer(codes: Tensor) -> Any:
    """The same codes in the peer's codebook, as if each had been used once."""
    made = VectorQuantize(
        dim=codes.shape[1], codebook_size=len(codes), decay=0.99, rotation_trick=False, threshold_ema_dead_code=0
    )
    table = made._codebook
    table.embed.data.copy_(codes[None])
    table.embed_avg.data.copy_(codes[None])
    table.cluster_size.data.fill_(1.0)
    table.initted.data.fill_(True)
    return made.train()


def compare(codes: Tensor, vectors: Tensor) -> dict[str, float]:
    """Share of vectors with other codes, and the largest relative difference of the averages of used codes."""
    mine, other = ours(codes), peer(codes)
    out = mine({"a": vectors})
    _, indices, _ = other(vectors)
    used = out.usage["a"] > 0
    table = other._codebook
    pairs = (
        (mine.ema_sum, table.embed_avg[0]),
        (mine.ema_count, table.cluster_size[0]),
        (mine.embedding, table.embed[0]),
    )
    errors = [float((a - b)[used].norm() / b[used].norm()) for a, b in pairs]
    return {"codes": float((out.indices["a"] != indices).float().mean()), "averages": max(errors)}


def measure(report: Report, size: int, repeats: int) -> None:
    vectors = torch.randn(1, ROWS, DIM)
    codes = torch.randn(size, DIM) / 2
    differences = compare(codes, vectors)
    mine, other, index = ours(codes), peer(codes), faiss.IndexFlatL2(DIM)
    index.add(codes.numpy())
    rows = vectors[0].numpy()
    found = torch.from_numpy(copy.copy(index.search(rows, 1)[1][:, 0]))
    elsewhere = float((mine.assign(vectors[0]) != found).float().mean())
    times = take_turns(
        {
            "ours": lambda: mine({"a": vectors}),
            "ours, search alone": lambda: mine.assign(vectors),
            "vector-quantize-pytorch": lambda: other(vectors),
            "faiss, search alone": lambda: index.search(rows, 1),
        },
        repeats,
    )
    step, large = times["ours"].min, size == max(SIZES)
    report.figures |= {f"{size} codes, ms": times, f"{size} codes: differences": differences}
    report.gates += [
        Gate(f"{size} codes: share of codes unlike the peer's", differences["codes"], at_most=1e-3),
        Gate(f"{size} codes: averages unlike the peer's", differences["averages"], at_most=1e-4),
        Gate(f"{size} codes: share of neighbours unlike faiss's", elsewhere, at_most=1e-3),
        Gate(f"{size} codes: vector-quantize-pytorch / ours", times["vector-quantize-pytorch"].min / step,
             at_least=4.0 if large else None),
        Gate(f"{size} codes: ours / faiss's search alone", step / times["faiss, search alone"].min,
             at_most=1.3 if large else None),
    ]  # fmt: skip


def main() -> int:
    require("vector-quantize-pytorch", "faiss-cpu")
    parsed = arguments("eval.performance.codebook", __doc__, repeats=9)
    faiss.omp_set_num_threads(parsed.threads)
    packages = ("vector-quantize-pytorch", "faiss-cpu")
    report = Report("codebook", "python -m eval.performance.codebook", parsed.seed, packages)
    for size in SIZES:
        measure(report, size, parsed.repeats)
    return report.write(parsed.out)


if __name__ == "__main__":
    sys.exit(main())
