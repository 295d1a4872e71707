"""Benchmark P3c: a training step of our codebook beside that of the class which CMG released.

    python -m eval.performance.published_codebook [--repeats 9] [--threads 2] [--out eval/reports/performance]

Two senses of 80 samples, 10 steps and width 256 on 400 codes: nearest codes, straight-through, commitment with its
cross terms, code matching, moving averages of both senses, the count of unused codes, and the backward pass to the
features. The peer is re-typed from what method-facts 2.3 to 2.6 say of the released class, and computes as it does: in
double precision, with one-hot matrices of steps by codes, code by code noted as used in a Python loop with `.item()`,
and code matching in one over the batch. Ours runs in single precision, and in double.

Codes, losses and gradients are compared before anything is timed. The released averages move once per sense, ours once
for both; they are compared on codes that both senses chose, ours moved in the released order. Where ours has no need
of a stabiliser (1e-5 in the denominator of code matching, smoothed counts that are kept) the comparison in double
precision is without it, that in single precision with it. The exit code is 1 when a gate is missed.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import cast

import torch
from torch import Tensor
from torch.nn import functional as F

from eval.performance.harness import Gate, Report, arguments, take_turns
from polysense.losses import code_distribution, commitment, cross_modal_code
from polysense.nn import Codebook, CodebookOptions, CodeStatistics
from polysense.nn.alignment import same_step

BATCH, STEPS, DIM, SIZE = 80, 10, 256, 400
BETA, MATCHING, DECAY = 0.25, 0.5, 0.99
EPSILON, DENOMINATOR = 1e-5, 1e-5
NONE = 1e-15  # of a stabiliser
PEER, OURS, DOUBLE = "the released class", "ours", "ours, double precision"
Features = Mapping[str, Tensor]


@dataclass
class Outcome:
    """What a step gives: codes, terms, and the gradients of the features."""

    indices: dict[str, Tensor]
    commitment: Tensor
    matching: Tensor
    gradients: dict[str, Tensor] = field(default_factory=dict)

    def backward(self, features: Features, quantized: Features) -> Outcome:
        """Descend both terms, and a sum of the quantised features in place of the decoders."""
        passed = torch.stack([each.square().mean() for each in quantized.values()]).sum()
        (self.commitment + MATCHING * self.matching + passed).backward()
        self.gradients = {name: cast(Tensor, each.grad) for name, each in features.items()}
        return self


class Released:
    """The released way to compute a step, for two senses."""

    def __init__(self, codes: Tensor, epsilon: float = EPSILON, denominator: float = DENOMINATOR) -> None:
        self.embedding, self.ema_sum = codes.double(), codes.double()
        self.ema_count, self.unused = torch.ones(len(codes)).double(), torch.full((len(codes),), -1)
        self.epsilon, self.denominator = epsilon, denominator

    def __call__(self, values: Features) -> Outcome:
        features = leaves(values, torch.float64)
        rows = {name: each.detach().reshape(-1, DIM) for name, each in features.items()}
        indices = {name: self._squared(each).argmin(dim=1) for name, each in rows.items()}
        chosen = {name: F.one_hot(each, len(self.embedding)).double() for name, each in indices.items()}
        codes = {name: F.embedding(each, self.embedding).view(BATCH, STEPS, DIM) for name, each in indices.items()}
        first, second = features
        likely = {name: self._likely(each) for name, each in features.items()}
        terms = [
            2 * BETA * F.mse_loss(features[own], codes[own]) + BETA * F.mse_loss(features[own], codes[other])
            for own, other in ((first, second), (second, first))
        ]
        out = Outcome(
            {name: each.view(BATCH, STEPS) for name, each in indices.items()},
            terms[0] + terms[1],
            self._matching(likely[first], likely[second]),
        )
        self._note(indices)
        for own, other in ((first, second), (second, first)):
            self._average(chosen[own], rows[own], rows[other])
        quantized = {name: each + (codes[name] - each).detach() for name, each in features.items()}
        return out.backward(features, quantized)

    def _squared(self, rows: Tensor) -> Tensor:
        lengths = (self.embedding**2).sum(dim=1) + (rows**2).sum(dim=1, keepdim=True)
        return torch.addmm(lengths, rows, self.embedding.t(), alpha=-2.0)

    def _likely(self, features: Tensor) -> Tensor:
        likely = F.softmax(-self._squared(features.reshape(-1, DIM)).sqrt(), dim=1)
        return likely.view(BATCH, STEPS, -1).mean(dim=1)

    def _matching(self, a: Tensor, b: Tensor) -> Tensor:
        scores = a @ torch.log(b.t() + 1e-10) + b @ torch.log(a.t() + 1e-10)
        shifted = torch.exp(scores - scores.detach().max())
        total = torch.zeros((), dtype=torch.float64)
        for row in range(len(shifted)):
            total = total - torch.log(shifted[row, row] / (shifted[row].sum() + self.denominator))
        return total / len(shifted)

    def _note(self, indices: Features) -> None:
        """A counter per code, back at 0 whenever a sense uses it."""
        self.unused += 1
        for each in indices.values():
            for step in each:
                self.unused[step.item()] = 0

    def _average(self, chosen: Tensor, own: Tensor, other: Tensor) -> None:
        """One sense's step of the moving averages, its vectors and its partners' half and half."""
        count = DECAY * self.ema_count + (1 - DECAY) * chosen.sum(dim=0)
        total = count.sum()
        self.ema_count = (count + self.epsilon) / (total + len(count) * self.epsilon) * total
        sums = chosen.t() @ own / 2 + chosen.t() @ other / 2
        self.ema_sum = DECAY * self.ema_sum + (1 - DECAY) * sums
        self.embedding = self.ema_sum / self.ema_count[:, None]


class Ours:
    """The same step with the parts that training uses."""

    def __init__(self, codes: Tensor, dtype: torch.dtype, epsilon: float = EPSILON) -> None:
        self.codebook = Codebook(len(codes), DIM, CodebookOptions(decay=DECAY, epsilon=epsilon))
        self.codebook.put(slice(None), codes)
        self.codebook.to(dtype)
        self.dtype = dtype

    def __call__(self, values: Features, *, update: bool = True) -> Outcome:
        features, codes = leaves(values, self.dtype), self.codebook.embedding
        masks = {name: torch.ones(each.shape[:2], dtype=torch.bool) for name, each in features.items()}
        coded = self.codebook(features, masks, update=update)
        scores = coded.scores
        likely = {
            name: code_distribution(each, codes, masks[name], scores.get(name)) for name, each in features.items()
        }
        terms = commitment(features, coded.codes, masks, beta=BETA, align=same_step)
        return Outcome(dict(coded.indices), terms, cross_modal_code(likely)).backward(features, coded.quantized)

    def in_released_order(self, values: Features, indices: Features) -> None:
        """Move the averages once for each sense."""
        features = {name: each.to(self.dtype) for name, each in values.items()}
        masks = {name: torch.ones(each.shape[:2], dtype=torch.bool) for name, each in features.items()}
        for name, each in self.codebook.blended(features, masks).items():
            rows, book = indices[name].flatten(), self.codebook
            sums = torch.zeros_like(book.ema_sum).index_add_(0, rows, each.reshape(-1, DIM))
            book.update(CodeStatistics(torch.bincount(rows, minlength=book.size).to(self.dtype), sums))


def leaves(values: Features, dtype: torch.dtype) -> dict[str, Tensor]:
    """Features as an encoder gives them, ready to take a gradient."""
    return {name: each.to(dtype, copy=True).requires_grad_() for name, each in values.items()}


def compare(codes: Tensor, values: Features, dtype: torch.dtype) -> dict[str, float]:
    """Share of steps with other codes, and the largest relative difference of terms, gradients and averages."""
    exact = dtype == torch.float64
    peer = Released(codes, NONE, 0.0) if exact else Released(codes)
    mine = Ours(codes, dtype, NONE if exact else EPSILON)
    theirs, found = peer(values), mine(values, update=False)
    mine.in_released_order(values, found.indices)
    pairs = {
        "terms": [(found.commitment, theirs.commitment), (found.matching, theirs.matching)],
        "gradients": [(found.gradients[name], theirs.gradients[name]) for name in values],
    }
    used = [torch.bincount(each.flatten(), minlength=len(codes)) > 0 for each in theirs.indices.values()]
    both = used[0] & used[1]
    pairs["averages"] = [(mine.codebook.embedding[both], peer.embedding[both])]
    unlike = torch.stack([(found.indices[name] != theirs.indices[name]).double().mean() for name in values])
    errors = {what: max(_difference(*pair) for pair in each) for what, each in pairs.items()}
    return {"codes": float(unlike.max()), **errors}


def _difference(mine: Tensor, theirs: Tensor) -> float:
    return float((mine.detach().double() - theirs.detach()).norm() / theirs.detach().norm())


def measure(report: Report, repeats: int) -> None:
    shared = torch.randn(BATCH, STEPS, DIM)
    values = {name: shared + torch.randn(BATCH, STEPS, DIM) / 2 for name in ("audio", "video")}
    codes = torch.randn(SIZE, DIM)
    single, double = (compare(codes, values, dtype) for dtype in (torch.float32, torch.float64))
    sides: dict[str, Callable[[], Outcome]] = {
        PEER: partial(Released(codes), values),
        OURS: partial(Ours(codes, torch.float32), values),
        DOUBLE: partial(Ours(codes, torch.float64), values),
    }
    for name, differences, most in (("single", single, 1e-4), ("double", double, 1e-9)):
        report.figures[f"{name} precision: differences"] = differences
        report.gates += [
            Gate(f"{name} precision: share of codes unlike the released class's", differences["codes"], at_most=1e-3),
            *(Gate(f"{name} precision: {what} unlike the released class's", differences[what], at_most=most)
              for what in ("terms", "gradients", "averages")),
        ]  # fmt: skip
    times = take_turns(sides, repeats)
    report.figures["a step, ms"] = times
    report.gates += [
        Gate(f"{PEER} / {OURS}", times[PEER].min / times[OURS].min, at_least=5.0),
        Gate(f"{PEER} / {DOUBLE}", times[PEER].min / times[DOUBLE].min, at_least=2.0),
    ]


def main() -> int:
    parsed = arguments("eval.performance.published_codebook", __doc__, repeats=9)
    command = "python -m eval.performance.published_codebook"
    report = Report("published_codebook", command, parsed.seed, packages=())
    measure(report, parsed.repeats)
    return report.write(parsed.out)


if __name__ == "__main__":
    sys.exit(main())
