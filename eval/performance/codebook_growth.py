"""Benchmark of COMET's growing codebook: what new codes cost a training step is what they cost the search.

    python -m eval.performance.codebook_growth [--repeats 9] [--threads 2] [--out eval/reports/performance]

16,384 vectors of width 256; codebooks of 400 and 2,048 codes, and what `grow` makes of them with half as many new
ones. A step is the forward pass with moving averages, the search alone is `Codebook.assign`. Also printed: the look-up
of the pseudo-modality in the frozen codes and the new ones, which every stage but the first adds. The exit code is 1
when a gate is missed.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import torch

from eval.performance.harness import Gate, Report, arguments, take_turns
from polysense.nn import Codebook, CodebookOptions, FrozenCodes, grow

ROWS, DIM, SIZES = 16_384, 256, (400, 2_048)


def measure(report: Report, size: int, repeats: int) -> None:
    vectors, added = torch.randn(1, ROWS, DIM), size // 2
    books = [Codebook(size, DIM, CodebookOptions(restart_after=0)) for _ in range(2)]
    for book in books:
        book.start_from(vectors[0])
    before, after = books
    frozen, old = FrozenCodes(after), after.embedding
    grow(after, added, vectors[0])
    unchanged = bool(torch.equal(after.embedding[:size], old))
    sides: dict[str, Callable[[], Any]] = {
        "a step": partial(before, {"a": vectors}),
        "a step, grown": partial(after, {"a": vectors}),
        "search": partial(before.assign, vectors),
        "search, grown": partial(after.assign, vectors),
        "look-up of the pseudo-modality": partial(frozen.match, after, vectors),
    }
    times = take_turns(sides, repeats)
    step = times["a step, grown"].min / times["a step"].min
    search = times["search, grown"].min / times["search"].min
    name = f"{size} to {size + added} codes"
    report.figures[f"{name}, ms"] = times
    report.gates += [
        Gate(f"{name}: old codes kept to the last bit", float(unchanged), at_least=1.0),
        Gate(f"{name}: growth of a step", step),
        Gate(f"{name}: growth of a step / of the search alone", step / search, at_most=1.05),
        Gate(f"{name}: growth of a step / of the codebook", step * size / (size + added), at_most=1.15),
    ]


def main() -> int:
    parsed = arguments("eval.performance.codebook_growth", __doc__, repeats=9)
    report = Report("codebook_growth", "python -m eval.performance.codebook_growth", parsed.seed, packages=())
    for size in SIZES:
        measure(report, size, parsed.repeats)
    return report.write(parsed.out)


if __name__ == "__main__":
    sys.exit(main())
