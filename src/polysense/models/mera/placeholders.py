"""Placeholders in a sequence of tokens and the features that take their place: counted first, then exchanged."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from polysense.errors import FeatureShapeError
from polysense.models.mera.inputs import check_vocabulary


def check_counts(placeholders: Sequence[int], items: Sequence[int], *, modality: str, token: str) -> None:
    """Refuse a batch whose placeholders and features of one sense do not agree sample by sample.

    Items belong to samples in order: a sample takes as many as its placeholders have room for.

    Args:
        placeholders: number of placeholder tokens in each sample.
        items: number of feature tokens of each item, in the order of the batch.

    Raises:
        FeatureShapeError: names the first sample that does not fit, and the sense.
    """
    taken = 0
    for sample, wanted in enumerate(placeholders):
        given, first = 0, taken
        while given < wanted and taken < len(items):
            given, taken = given + items[taken], taken + 1
        if given != wanted:
            found = f"{taken - first} items of {sorted(set(items[first:taken]))} tokens" if given else "no features"
            raise FeatureShapeError(
                f"there are {wanted} placeholders {token}, and {found} for them",
                where=f"{modality} of sample {sample}",
                fix="Repeat the placeholder once per feature token, as MeraProcessor does.",
            )
    if taken < len(items):
        raise FeatureShapeError(
            f"{len(items)} items came for placeholders {token} of {taken}",
            where=f"{modality} of sample {len(placeholders) - 1} (or before)",
            fix="Give one placeholder per item, or leave the item out.",
        )


def known_ids(
    input_ids: Int[Tensor, "batch tokens"], placeholders: Iterable[int], vocabulary: int
) -> Int[Tensor, "batch tokens"]:
    """Token ids that all have a row among the word vectors.

    A placeholder needs no row of its own, since its vector is never used: one beyond the vocabulary becomes 0.

    Raises:
        ConfigError: an id is neither of the vocabulary nor a placeholder; the message names it and its sample.
    """
    known = input_ids
    for token_id in placeholders:
        if token_id >= vocabulary:
            known = known.masked_fill(input_ids == token_id, 0)
    check_vocabulary(known, vocabulary, where="input_ids", fix="Use the processor that was saved with the model.")
    return known


def exchange(
    vectors: Float[Tensor, "batch tokens dim"],
    input_ids: Int[Tensor, "batch tokens"],
    token_id: int,
    features: Sequence[Float[Tensor, "_ dim"]],
) -> Float[Tensor, "batch tokens dim"]:
    """Word vectors with features in the places of `token_id`, in row-major order; counts must agree."""
    joined = torch.cat(list(features)).to(vectors.device, vectors.dtype)
    return vectors.masked_scatter((input_ids == token_id).unsqueeze(-1), joined)
