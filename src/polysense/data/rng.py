"""Counter-based randomness: every draw is a function of what it is for, never of what was drawn before.

A generator is keyed by (seed, epoch, sample id, purpose), so a run that is killed and resumed, prefetched by threads
or spread over processes draws the same numbers without any stored generator state.
"""

from __future__ import annotations

import hashlib

import numpy as np

Key = str | int


def keyed_int(*parts: Key, bits: int = 64) -> int:
    """A uniform integer of `bits` bits (a multiple of 8, at most 512) that depends on nothing but `parts`."""
    digest = hashlib.blake2b(repr(parts).encode(), digest_size=bits // 8).digest()
    return int.from_bytes(digest, "little")


def keyed_rng(*parts: Key) -> np.random.Generator:
    """A Philox generator keyed by `parts`; equal parts give equal streams on every machine."""
    return np.random.Generator(np.random.Philox(key=keyed_int(*parts, bits=128)))


def sample_rng(seed: int, epoch: int, sample_id: str, purpose: str = "") -> np.random.Generator:
    """The generator for one sample in one epoch.

    Args:
        seed: seed of the run.
        epoch: how often the data set was gone through before this draw.
        sample_id: identifier of the sample, unique within its data set.
        purpose: what is drawn ("audio" augmentation, "caption" choice ...); different purposes are independent.
    """
    return keyed_rng("sample", seed, epoch, sample_id, purpose)


def step_seed(seed: int, step: int, rank: int) -> int:
    """Seed for `torch.manual_seed` at one optimiser step of one process (63 bits, never negative)."""
    return keyed_int("step", seed, step, rank) >> 1
