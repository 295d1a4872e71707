"""How senses use the codes of one codebook: counts, perplexity, and which senses activate a code (COMET, Fig. 3)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from polysense.errors import ConfigError

MIN_HITS = 5
"""A code with fewer hits, over all senses, is not effectively activated: black in Figure 3 (method-facts 3.7)."""


def code_counts(
    indices: Int[Tensor, "batch time"], size: int, mask: Bool[Tensor, "batch time"] | None = None
) -> Int[Tensor, " size"]:
    """How often each of the `size` codes occurs in sequences, padding (where `mask` is false) left out.

    Raises:
        ConfigError: a code that the codebook does not have.
    """
    hits = indices.flatten() if mask is None else indices[mask]
    if hits.numel() and not 0 <= int(hits.min()) <= int(hits.max()) < size:
        raise ConfigError(f"the codes reach from {int(hits.min())} to {int(hits.max())}", where=f"codebook of {size}",
                          fix="Count with the size of the codebook that made them.")  # fmt: skip
    return torch.bincount(hits, minlength=size)


def perplexity(counts: Int[Tensor, " size"]) -> float:
    """How many codes, used evenly, have the entropy of `counts`; 0 where nothing was counted."""
    shares = counts.double() / counts.sum().clamp(min=1)
    return float(torch.special.entr(shares).sum().exp()) if bool(counts.any()) else 0.0


@dataclass(frozen=True)
class CodeActivation:
    """Which senses activate each code.

    Attributes:
        senses: names, in the order of the rows.
        hits: how often each sense uses each code.
        shares: a sense's part in a code, every sense counted as if it had as many steps as any other; sums to one over
            the senses, zero for codes that nothing uses.
        active: whether the sense activates the code effectively.
    """

    senses: tuple[str, ...]
    hits: Int[Tensor, "senses size"]
    shares: Float[Tensor, "senses size"]
    active: Bool[Tensor, "senses size"]

    @property
    def level(self) -> Int[Tensor, " size"]:
        """By how many senses each code is activated: black 0, blue 1, green 2, red 3 in Figure 3."""
        return self.active.sum(dim=0)

    @property
    def level_shares(self) -> dict[int, float]:
        """Number of senses, from none to all, to the share of the codes that so many activate."""
        counts = torch.bincount(self.level, minlength=len(self.senses) + 1)
        return {number: float(count) / self.hits.shape[1] for number, count in enumerate(counts)}

    @property
    def dead(self) -> float:
        """Share of the codes that no sense uses even once."""
        return float((self.hits.sum(dim=0) == 0).float().mean())


def code_activation(
    counts: Mapping[str, Int[Tensor, " size"]], *, share: float | None = None, min_hits: int = MIN_HITS
) -> CodeActivation:
    """Which senses activate each code effectively (COMET, section 4.8; thresholds: method-facts 3.7).

    Args:
        counts: sense to how often it uses each code (`code_counts`).
        share: least part in a code with which a sense activates it. By default 0.2 between two senses, as in CMG's
            Figure 4, and 0.1 among more; COMET does not print its own.
        min_hits: codes with fewer hits are activated by nothing.

    Raises:
        ConfigError: no sense, senses that counted different codebooks, or a sense without a step.
    """
    sizes = {sense: len(hits) for sense, hits in counts.items()}
    if len(set(sizes.values())) != 1:
        raise ConfigError(f"the senses count codes of codebooks of sizes {sizes}",
                          fix="Encode one or more senses with one model.")  # fmt: skip
    for sense, each in counts.items():
        if not bool(each.any()):
            raise ConfigError("nothing of the sense was encoded", where=sense, fix="Give samples that have the sense.")
    hits = torch.stack(list(counts.values()))
    rates = hits.double() / hits.sum(dim=1, keepdim=True)
    shares = rates / rates.sum(dim=0).clamp(min=torch.finfo(rates.dtype).tiny)
    least = share if share is not None else 0.2 if len(counts) == 2 else 0.1
    active = (shares >= least) & (hits.sum(dim=0) >= min_hits)
    return CodeActivation(tuple(counts), hits, shares.float(), active)
