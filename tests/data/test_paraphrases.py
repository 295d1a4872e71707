"""Sentences that mean the same."""

from __future__ import annotations

import pytest

from polysense.data import Paraphrases, Sample
from polysense.errors import ManifestError


class Rows(list[Sample]):
    """Samples in a list."""

    def labels(self, modality: str) -> list[str | None]:
        return [sample.labels.get(modality) for sample in self]


def row(name: str, **captions: tuple[str, ...]) -> Sample:
    return Sample(name, {}, captions=captions, extra={"semantics": {"audio": "metal fall"}})


def test_each_modality_of_a_sample_with_two_captions_is_a_group() -> None:
    found = Paraphrases.from_datasets([Rows([row("a", audio=("x", "y"), image=("z", "w")), row("b", audio=("u",))])])
    assert found.meanings == ("metal fall", "a image") and found.groups == (("x", "y"), ("z", "w"))


def test_a_pair_is_two_different_sentences_of_one_group_and_depends_on_the_key_alone() -> None:
    corpus = Paraphrases(("one", "two"), (("a", "b", "c"), ("d", "e")))
    first, second, meanings = corpus.pairs(20, "step", 3)
    assert all(x != y for x, y in zip(first, second, strict=True))
    assert all({x, y} <= set(corpus.groups[corpus.meanings.index(m)])
               for x, y, m in zip(first, second, meanings, strict=True))  # fmt: skip
    assert corpus.pairs(20, "step", 3) == (first, second, meanings) != corpus.pairs(20, "step", 4)


def test_a_corpus_without_paraphrases_is_refused() -> None:
    with pytest.raises(ManifestError, match="no sample has two captions"):
        Paraphrases.from_datasets([Rows([row("a", audio=("x", "x"))])])
