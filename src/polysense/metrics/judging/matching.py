"""The judge that needs no model: equal after normalisation, or wrong."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

from polysense.metrics.judging.verdicts import Answer, Judgement, Verdict

_NUMBER_WORDS = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen twenty thirty forty fifty sixty seventy eighty ninety"
)
_NUMBERS = dict(zip(_NUMBER_WORDS.split(), map(str, [*range(21), *range(30, 100, 10)]), strict=True))
_ARTICLES = {"a", "an", "the"}


def normalised(text: str) -> str:
    """Lower case, without punctuation and articles, numbers up to twenty and full tens in digits, single spaces.

    Points and commas within a number and apostrophes within a word leave no gap ("1,000", "don't"); other marks part
    words. A text that is nothing but articles or punctuation is kept, lest all such texts be equal.
    """
    plain = unicodedata.normalize("NFKC", text).casefold()
    joined = re.sub(r"(?<=\d),(?=\d{3})|(?<=\w)['\u2019](?=\w)", "", plain)
    words = re.sub(r"(?<!\d)\.|\.(?!\d)|[^\w\s.]|_", _gap, joined).split()
    kept = " ".join(_NUMBERS.get(word, word) for word in words if word not in _ARTICLES)
    return kept or " ".join(plain.split())


def _gap(found: re.Match[str]) -> str:
    """A space, but for marks that belong to a letter, as vowels do in many scripts."""
    return found[0] if unicodedata.category(found[0]).startswith("M") else " "


class NormalisedMatchJudge:
    """Calls an answer right if it equals the reference after normalisation: exact, free, blind to synonyms.

    Its accuracy is a lower bound of what an LLM judge would give and must not be compared with one; its name says so
    in every result. It gives no scores.
    """

    @property
    def name(self) -> str:
        return "normalised match (no language model)"

    def __call__(self, answers: Sequence[Answer]) -> Judgement:
        verdicts = (Verdict(normalised(each.prediction) == normalised(each.reference)) for each in answers)
        return Judgement(judge=self.name, verdicts=tuple(verdicts))
