"""Counter-based random numbers: every draw depends on what it is for, never on when or where it is made."""

from __future__ import annotations

import hashlib

import numpy as np


def generator(*key: object) -> np.random.Generator:
    """A Philox generator addressed by a key such as (world seed, "still", "train", 12, "sound").

    Two calls with one key give one stream in every process and in any order, so the content of a sample does not
    depend on how many workers built the world or which samples were built before.
    """
    digest = hashlib.blake2b("\x1f".join(map(str, key)).encode(), digest_size=16).digest()
    return np.random.Generator(np.random.Philox(key=np.frombuffer(digest, dtype="<u8")))
