"""The discrete codebook that all senses share (CMG, section 3.3; COMET, Eq. 3; method-facts 2.3).

Nearest code, straight-through gradient, and a multi-modal moving average in place of gradients to the codes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from polysense.errors import ConfigError, FeatureShapeError
from polysense.nn.alignment import ALIGNMENTS
from polysense.nn.masks import MaskLike, step_mask
from polysense.nn.nearest import nearest, nearest_with_scores
from polysense.nn.starts import named_draws

Sequences = Mapping[str, Float[Tensor, "batch _steps dim"]]
Masks = Mapping[str, MaskLike | None]


@dataclass(frozen=True)
class CodeStatistics:
    """What one or more batches say about the codes; statistics of batches and of processes add up.

    Attributes:
        counts: n of Eq. 3, steps that chose each code.
        sums: the sum of the blended vectors of those steps.
    """

    counts: Float[Tensor, " size"]
    sums: Float[Tensor, "size dim"]

    def __add__(self, other: CodeStatistics) -> CodeStatistics:
        return CodeStatistics(self.counts + other.counts, self.sums + other.sums)

    def flat(self) -> Float[Tensor, " numbers"]:
        """All numbers in one row, for a transfer between processes."""
        return torch.cat([self.counts, self.sums.flatten()])

    def from_flat(self, numbers: Float[Tensor, " numbers"]) -> CodeStatistics:
        """The statistics of this shape whose `flat` is `numbers`."""
        counts, sums = numbers.split([self.counts.numel(), self.sums.numel()])
        return CodeStatistics(counts, sums.view_as(self.sums))


@dataclass(frozen=True)
class CodebookOutput:
    """What the codebook makes of one batch of aligned sequences.

    Attributes:
        indices: sense to the code of every step, `batch time`; steps that the mask leaves out have one as well.
        quantized: sense to the codes' vectors, `batch time dim`, whose gradient goes to the features unchanged.
        codes: the same vectors without any gradient.
        perplexity: exponentiated entropy of the codes used by all senses; 1 when all steps share a code.
        usage: sense to the number of its real steps per code, `size`.
        scores: sense to z e - |e|^2 / 2 of every step and code; empty where there are too many to keep.
        statistics: what an update is made from; `None` in eval mode.
        restarts: codes that were restarted in the update of this call.
    """

    indices: Mapping[str, Int[Tensor, "batch _steps"]]
    quantized: Mapping[str, Float[Tensor, "batch _steps dim"]]
    codes: Mapping[str, Float[Tensor, "batch _steps dim"]]
    perplexity: Float[Tensor, ""]
    usage: Mapping[str, Int[Tensor, " size"]]
    scores: Mapping[str, Float[Tensor, "batch _steps size"]]
    statistics: CodeStatistics | None = None
    restarts: int = 0


@dataclass(frozen=True, kw_only=True)
class CodebookOptions:
    """How codes follow the features.

    Attributes:
        decay: gamma of the moving averages.
        epsilon: of the Laplace smoothing of the counts.
        restart_after: updates without use after which a code is drawn anew; 0 never does so. Give it as a share of a
            stage (a quarter): the released 300 never comes in a stage of 250 steps.
        restart_recent: replacements are codes that were used within this many updates.
        restart_noise: half width of the uniform noise on replacements.
        hold_protected: protected codes stand still to the last bit; otherwise those that are used go on moving.
        mixing: name in `ALIGNMENTS` of the alignment that blends a sense's vectors with its partners' half and half,
            or "none": every sense counts for itself, plain EMA-VQ.

    Raises:
        ConfigError: a value that cannot be used.
    """

    decay: float = 0.99
    epsilon: float = 1e-5
    restart_after: int = 300
    restart_recent: int = 100
    restart_noise: float = 1 / 1024
    hold_protected: bool = False
    mixing: str = "time"

    def __post_init__(self) -> None:
        checks = {
            "decay": 0 < self.decay < 1,
            "epsilon": 0 < self.epsilon < 1,
            "restart_after": self.restart_after >= 0,
            "restart_recent": self.restart_recent >= 1,
            "restart_noise": 0 <= self.restart_noise < math.inf,
            "mixing": self.mixing in (*ALIGNMENTS, "none"),
        }
        if bad := [name for name, fine in checks.items() if not fine]:
            raise ConfigError(f"{bad[0]} is {getattr(self, bad[0])!r}", where="codebook",
                              fix=f"Use a share, a count, or one of {', '.join(ALIGNMENTS)}, none.")  # fmt: skip


class Codebook(nn.Module):
    """Codes that several senses share. All state is in buffers, each replaced and never written into by an update.

    Buffers: `embedding` (size, dim), the codes e; `ema_count` (size), N; `ema_sum` (size, dim), o; `unused_steps`
    (size), updates since a code was used; `updates`, how many there were, which also keys the draws of restarts.

    N starts at 1 and o at e, so that e = o / N holds from the first step on, wherever the codes come from.

    Args:
        size, dim, options: number and width of the codes, and how they follow the features.
        protected: first codes that are never restarted: those of earlier stages, which an absent sense may use.

    Raises:
        ConfigError: sizes that are not positive, or more protected codes than there are.
    """

    embedding: Tensor
    ema_count: Tensor
    ema_sum: Tensor
    unused_steps: Tensor
    updates: Tensor

    def __init__(self, size: int, dim: int, options: CodebookOptions | None = None, *, protected: int = 0) -> None:
        super().__init__()
        if size < 1 or dim < 1 or not 0 <= protected <= size:
            raise ConfigError(f"a codebook of {size} codes of width {dim}, {protected} of them protected",
                              fix="Use positive sizes, and protect no more codes than there are.")  # fmt: skip
        self.options, self.protected = options or CodebookOptions(), protected
        self.register_buffer("embedding", torch.empty(size, dim))
        self.register_buffer("ema_count", torch.empty(size))
        self.register_buffer("ema_sum", torch.empty(size, dim))
        self.register_buffer("unused_steps", torch.empty(size, dtype=torch.int64))
        self.register_buffer("updates", torch.empty((), dtype=torch.int64))
        self.reset_parameters()

    @property
    def size(self) -> int:
        return self.embedding.shape[0]

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """CMG's start: codes uniform in +-1/size. `start_from` gives a better one."""
        self.updates.zero_()
        self.put(slice(None), torch.rand_like(self.embedding).mul_(2).sub_(1).div_(self.size))

    @torch.no_grad()
    def start_from(self, vectors: Float[Tensor, "rows _"], *, key: str = "") -> None:
        """Begin at vectors drawn from a batch, without repetition as far as they last; `key` keys the draw.

        Raises:
            FeatureShapeError: vectors of another width, not finite or all the same; nothing is changed.
        """
        check_spread(vectors, self.embedding.shape[1])
        with named_draws(f"{key}/start"):
            order = torch.cat([torch.randperm(len(vectors)) for _ in range(-(-self.size // len(vectors)))])
            noise = self._noise(self.size)
        rows = vectors[order[: self.size].to(vectors.device)].to(self.embedding)
        noise[: len(vectors)] = 0
        self.reset_parameters()
        self.put(slice(None), rows + noise.to(rows))

    @torch.no_grad()
    def put(self, rows: Tensor | slice, codes: Float[Tensor, "rows dim"]) -> None:
        """Place codes as if they had been used once, just now: code, sum and count together."""
        for name, values in {"embedding": codes, "ema_sum": codes, "ema_count": 1.0, "unused_steps": 0}.items():
            changed = getattr(self, name).clone()
            changed[rows] = values
            setattr(self, name, changed)

    # ---- look-up ------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def assign(self, z: Float[Tensor, "*steps dim"]) -> Int[Tensor, "*steps"]:
        """Index of the code with the smallest squared distance to each vector; of equal ones, the first."""
        return nearest(z.reshape(-1, z.shape[-1]), self.embedding).reshape(z.shape[:-1])

    def lookup(self, indices: Int[Tensor, "*steps"]) -> Float[Tensor, "*steps dim"]:
        """The codes of given indices; stateless.

        Raises:
            FeatureShapeError: an index that is no code.
        """
        if indices.numel() and not (int(indices.min()) >= 0 and int(indices.max()) < self.size):
            raise FeatureShapeError(f"indices from {int(indices.min())} to {int(indices.max())} in a codebook of "
                                    f"{self.size}", fix="Use indices of this codebook.")  # fmt: skip
        return F.embedding(indices, self.embedding)

    def forward(self, features: Sequences, masks: Masks | None = None, *, update: bool = True) -> CodebookOutput:
        """Quantise sequences that belong together; in training mode the codes move towards them.

        Steps of a sample that is not finite in any sense, and steps that a mask leaves out, move no code.

        Args:
            features: sense to its sequences; row i of one belongs to row i of the others.
            masks: sense to which of its steps are real; senses without one are real throughout.
            update: move the codes at once. Otherwise the caller does it later with `update(output.statistics)`:
                summed over processes, after the backward pass, or not at all.

        Raises:
            FeatureShapeError: sequences that cannot be aligned; nothing is changed.
        """
        real = real_masks(features, masks)
        flat = torch.cat([each.detach().reshape(-1, each.shape[-1]) for each in features.values()])
        rows, scores = nearest_with_scores(flat, self.embedding)
        chosen = F.embedding(rows, self.embedding)
        lengths = [each.shape[0] * each.shape[1] for each in features.values()]
        pieces = zip(features, rows.split(lengths), chosen.split(lengths), strict=True)
        indices, codes = {}, {}
        for name, index, code in pieces:
            shape = features[name].shape
            indices[name], codes[name] = index.view(shape[:2]), code.view(shape).to(features[name].dtype)
        tables = () if scores is None else zip(features, scores.split(lengths), strict=True)
        usage = {name: torch.bincount(indices[name][real[name]], minlength=self.size) for name in features}
        statistics = self._statistics(features, indices, real) if self.training else None
        restarts = self.update(statistics) if update and statistics is not None else 0
        return CodebookOutput(
            indices=indices,
            quantized={name: straight_through(features[name], codes[name]) for name in features},
            codes=codes,
            perplexity=perplexity(torch.stack(list(usage.values())).sum(dim=0)),
            usage=usage,
            scores={name: table.view(*indices[name].shape, self.size) for name, table in tables},
            statistics=statistics,
            restarts=restarts,
        )

    # ---- learning -----------------------------------------------------------------------------------------------

    @torch.no_grad()
    def _statistics(
        self, features: Sequences, indices: Mapping[str, Tensor], real: Mapping[str, Tensor]
    ) -> CodeStatistics:
        """Counts and sums of Eq. 3 for all senses together."""
        finite = _finite_samples(features, real)
        # steps that do not count go to a row of their own, so that no value, however broken, reaches a code
        counts = self.ema_count.new_zeros(self.size + 1)
        sums = self.ema_sum.new_zeros(self.size + 1, self.ema_sum.shape[1])
        for name, blended in self.blended(features, real).items():
            counted = real[name] & finite[:, None]
            rows = torch.where(counted, indices[name], self.size).flatten()
            counts += torch.bincount(rows, minlength=self.size + 1)
            sums.index_add_(0, rows, blended.reshape(-1, blended.shape[-1]).to(sums.dtype))
        return CodeStatistics(counts[:-1], sums[:-1])

    def blended(
        self, features: Sequences, masks: Mapping[str, Bool[Tensor, "batch _steps"]]
    ) -> dict[str, Float[Tensor, "batch _steps dim"]]:
        """(z + mean of r) / 2 of every step, without gradients; z alone where no other sense has a partner for it."""
        detached = {name: each.detach() for name, each in features.items()}
        if self.options.mixing == "none" or len(features) == 1:
            return detached
        align = ALIGNMENTS[self.options.mixing]
        mixed = {}
        for name, own in detached.items():
            partners = [align(own, keys, keys, masks[other]) for other, keys in detached.items() if other != name]
            counted = [torch.where(there[..., None], partner, 0.0) for partner, there in partners]
            total = torch.stack(counted).sum(dim=0)
            count = torch.stack([there for _, there in partners]).sum(dim=0)
            mean = total / count.clamp(min=1)[..., None] if len(partners) > 1 else total
            mixed[name] = torch.lerp(own, mean, (count > 0).to(own.dtype)[..., None] / 2)
        return mixed

    @torch.no_grad()
    def update(self, statistics: CodeStatistics) -> int:
        """One step of the moving averages, and the restart of codes that nobody used for long.

        Codes that no step chose keep code, sum and count to the last bit, for smoothing would let them shrink towards
        the origin; so do those that are held. Without a single step that counts nothing happens at all.

        Returns:
            How many codes were restarted.
        """
        counts, sums = statistics.counts, statistics.sums
        used = counts > 0
        if not used.any():
            return 0
        if self.options.hold_protected:
            used[: self.protected] = False
        gamma, epsilon = self.options.decay, self.options.epsilon
        ema_count = torch.where(used, gamma * self.ema_count + (1 - gamma) * counts, self.ema_count)
        ema_sum = torch.where(used[:, None], gamma * self.ema_sum + (1 - gamma) * sums, self.ema_sum)
        mass = ema_count.sum()
        smoothed = (ema_count + epsilon) / (mass + self.size * epsilon) * mass
        self.embedding = torch.where(used[:, None], ema_sum / smoothed[:, None], self.embedding)
        self.ema_count, self.ema_sum = ema_count, ema_sum
        self.unused_steps = torch.where(counts > 0, 0, self.unused_steps + 1)
        self.updates = self.updates + 1
        return self._restart()

    def _restart(self) -> int:
        """Replace dead codes by lively ones with a little noise: code, sum and count, so that it lasts."""
        options = self.options
        if not options.restart_after:
            return 0
        dead = self.unused_steps > options.restart_after
        dead[: self.protected] = False
        lively = ((self.unused_steps <= options.restart_recent) & ~dead).nonzero().flatten()
        rows = dead.nonzero().flatten()
        if not len(rows) or not len(lively):
            return 0
        with named_draws(f"restart/{int(self.updates)}"):
            picks, noise = torch.randint(len(lively), (len(rows),)), self._noise(len(rows))
        self.put(rows, self.embedding[lively[picks.to(lively.device)]] + noise.to(self.embedding))
        return len(rows)

    def _noise(self, rows: int) -> Tensor:
        """Drawn on the host, so that every process and device has the same."""
        return (torch.rand(rows, self.embedding.shape[1]) * 2 - 1) * self.options.restart_noise

    def extra_repr(self) -> str:
        return f"{self.size}, {self.embedding.shape[1]}, protected={self.protected}"


class _StraightThrough(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, z: Tensor, codes: Tensor) -> Tensor:
        return codes.view_as(codes)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        return grads[0], None


def straight_through(
    z: Float[Tensor, "*steps dim"], codes: Float[Tensor, "*steps dim"]
) -> Float[Tensor, "*steps dim"]:
    """The codes, to the last bit, with the gradient of `z`: z + sg(codes - z) without its rounding and its passes."""
    quantized: Tensor = _StraightThrough.apply(z, codes)
    return quantized


def perplexity(usage: Int[Tensor, " size"]) -> Float[Tensor, ""]:
    """Exponentiated entropy of how often codes were used; 0 where none was."""
    share = usage / usage.sum().clamp(min=1)
    return torch.where(usage.sum() > 0, torch.exp(torch.special.entr(share).sum()), 0.0)


def real_masks(
    features: Mapping[str, Float[Tensor, "batch _steps *_sizes"]], masks: Masks | None
) -> dict[str, Bool[Tensor, "batch _steps"]]:
    """The mask of every sense as truth values, all true where none is given.

    Raises:
        FeatureShapeError: no sense, different batch sizes, or a mask of another shape or of no sense.
    """
    asked = {name: mask for name, mask in (masks or {}).items() if mask is not None}
    sizes = {name: each.shape[0] for name, each in features.items()}
    if len(set(sizes.values())) != 1:
        raise FeatureShapeError(f"sequences of {sizes} samples cannot be paired", fix="Give every sample all senses.")
    if unknown := sorted(set(asked) - set(features)):
        raise FeatureShapeError(f"there are masks of {unknown} without features", fix="Give both or neither.")
    given = {name: step_mask(mask, features[name].device, where=name) for name, mask in asked.items()}
    for name, mask in given.items():
        if mask.shape != features[name].shape[:2]:
            raise FeatureShapeError(
                f"a mask of shape {tuple(mask.shape)} does not fit sequences of {tuple(features[name].shape[:2])}",
                where=name, fix="Give one truth value per sample and step.",
            )  # fmt: skip
    return {
        name: given.get(name, torch.ones(each.shape[:2], dtype=torch.bool, device=each.device))
        for name, each in features.items()
    }


def check_spread(vectors: Float[Tensor, "rows _"], dim: int) -> None:
    """Refuse vectors from which no codes of width `dim` can be made.

    Raises:
        FeatureShapeError: none, of another shape, not finite, or all the same.
    """
    if vectors.shape[1:] != (dim,) or not len(vectors) or not vectors.isfinite().all():
        raise FeatureShapeError(f"features {tuple(vectors.shape)} fit no code of width {dim}, or are not finite",
                                where="codebook", fix="Look for broken samples in this batch.")  # fmt: skip
    if bool((vectors == vectors[0]).all()):
        raise FeatureShapeError("the features for the codes are all the same", where="codebook",
                                fix="Check what the features are extracted from.")  # fmt: skip


def _finite_samples(features: Sequences, real: Mapping[str, Tensor]) -> Bool[Tensor, " batch"]:
    """Samples whose real steps are finite in every sense; a sum shows it in one pass."""
    sums = [torch.where(real[name], each.detach().sum(dim=2), 0.0).sum(dim=1) for name, each in features.items()]
    return torch.stack(sums).isfinite().all(dim=0)
