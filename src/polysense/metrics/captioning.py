"""CIDEr-D of captions, on sparse n-gram matrices."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
from jaxtyping import Float, Int
from scipy import sparse

from polysense.errors import ConfigError
from polysense.metrics.tokenizers import caption_tokenizer

NGRAMS, SIGMA = 4, 6.0


@dataclass(frozen=True)
class CaptionScore:
    """What captions scored.

    Attributes:
        mean: over the samples; 1.0 is what papers print as 100 (method-facts 4.6).
        per_sample: the samples' scores, from 0 to 10.
        tokenizer: name of the one used; scores of different tokenizers cannot be compared.
    """

    mean: float
    per_sample: Float[np.ndarray, " samples"]
    tokenizer: str


def cider_d(
    predictions: Sequence[str], references: Sequence[Sequence[str]], *, tokenizer: str = "ptb"
) -> CaptionScore:
    """CIDEr-D as the COCO caption evaluation has it (Vedantam et al. 2015, section 4 and eq. 5).

    Per n from 1 to 4: the cosine of tf-idf vectors, where the prediction's counts are clipped to the reference's,
    times exp(-(difference of lengths)^2 / (2 sigma^2)) with sigma 6; averaged over n and over the references, times
    10. The idf is log(samples) - log(samples whose references hold the n-gram), so a score depends on all references
    of the test set. As in that evaluation, lengths are counted in bigrams.

    Args:
        predictions: one caption per sample.
        references: one or more captions per sample, in the same order.
        tokenizer: `ptb` or `whitespace`; see `polysense.metrics.tokenizers`.

    Raises:
        ConfigError: the numbers of predictions and references differ, there are fewer than two samples, a sample has
            no reference, or the tokenizer is unknown.
    """
    tokenize = caption_tokenizer(tokenizer)
    _check(predictions, references)
    captions = [tokenize(caption) for caption in predictions]
    captions += [tokenize(caption) for sample in references for caption in sample]
    samples, counts = len(predictions), np.fromiter(map(len, references), np.int64)
    owner = np.repeat(np.arange(samples), counts)
    similarity = np.mean([_cosine(tf, samples, owner) for tf in _term_counts(captions)], axis=0)

    bigrams = np.maximum(np.fromiter(map(len, captions), np.int64) - 1, 0)
    difference = bigrams[owner] - bigrams[samples:]
    similarity *= np.exp(-(difference**2) / (2 * SIGMA**2))
    per_sample = 10 * np.bincount(owner, similarity, minlength=samples) / counts
    return CaptionScore(float(per_sample.mean()), per_sample, tokenizer)


def _check(predictions: Sequence[str], references: Sequence[Sequence[str]]) -> None:
    if len(predictions) != len(references):
        raise ConfigError(
            f"there are {len(predictions)} predictions and references for {len(references)} samples",
            fix="Give one prediction and one list of references per sample, in the same order.",
        )
    for index, sample in enumerate(references):
        if isinstance(sample, str) or not sample:
            what = "is one string instead of a list" if sample else "is empty"
            raise ConfigError(
                f"the list of references {what}", where=f"sample {index}", fix="Give one or more captions in a list."
            )
    if len(predictions) < 2:
        raise ConfigError(
            f"CIDEr of {len(predictions)} samples is not defined: its idf is log(samples), which is 0 for one",
            fix="Score two or more samples together, best the whole test set.",
        )


def _term_counts(captions: list[list[str]]) -> list[sparse.csr_array]:
    """For n = 1..4, how often each caption (row) has each n-gram (column) that occurs anywhere."""
    vocabulary: defaultdict[str, int] = defaultdict()
    vocabulary.default_factory = vocabulary.__len__  # each new word gets the next number
    words = np.fromiter(map(vocabulary.__getitem__, chain.from_iterable(captions)), np.int64)
    lengths = np.fromiter(map(len, captions), np.int64)
    caption = np.repeat(np.arange(len(captions)), lengths)
    left = np.repeat(lengths.cumsum(), lengths) - np.arange(len(words))  # words from here to the caption's end
    start, gram, matrices = np.arange(len(words)), words, []
    for n in range(1, NGRAMS + 1):
        shape = (len(captions), int(gram.max(initial=-1)) + 1)
        matrices.append(sparse.csr_array((np.ones(len(gram)), (caption[start], gram)), shape=shape))
        longer = left[start] > n
        start = start[longer]
        # an n-gram and the next word are one number, renumbered so that it never grows beyond 64 bits
        gram = np.unique(gram[longer] * len(vocabulary) + words[start + n], return_inverse=True)[1]
    return matrices


def _cosine(
    tf: sparse.csr_array, samples: int, owner: Int[np.ndarray, " references"]
) -> Float[np.ndarray, " references"]:
    """Clipped cosine of each reference's tf-idf vector with that of its sample's prediction.

    Args:
        tf: counts; the first `samples` rows are predictions, then come the references.
        owner: the sample of each reference.
    """
    membership = sparse.csr_array((np.ones(len(owner)), (owner, np.arange(len(owner)))), shape=(samples, len(owner)))
    documents = np.bincount((membership @ tf[samples:]).indices, minlength=tf.shape[1])
    idf = np.log(samples) - np.log(np.maximum(documents, 1))
    weighted = sparse.csr_array((tf.data * idf[tf.indices], tf.indices, tf.indptr), shape=tf.shape)
    norms = np.sqrt((weighted * weighted).sum(axis=1))
    predicted, reference = weighted[:samples][owner], weighted[samples:]
    product = (predicted.minimum(reference) * reference).sum(axis=1)
    scale = norms[owner] * norms[samples:]
    cosine: Float[np.ndarray, " references"] = np.divide(product, scale, out=np.zeros(len(owner)), where=scale > 0)
    return cosine
