"""What is judged and what comes of it, whichever judge does it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import Protocol, runtime_checkable

from polysense.modality import JsonValue


@dataclass(frozen=True)
class Answer:
    """A model's answer (`prediction`) to a question, and the correct one (`reference`)."""

    question: str
    reference: str
    prediction: str


@dataclass(frozen=True)
class Verdict:
    """What a judge says of one answer.

    Attributes:
        correct: whether the answer counts as right.
        score: how well it matches, from 0 to 5; `None` from a judge that does not grade.
    """

    correct: bool
    score: float | None = None


@dataclass(frozen=True)
class Judgement:
    """Verdicts on a set of answers, and how they came about. What could not be judged has no verdict and no score.

    Attributes:
        judge: which judge it was; figures of different judges cannot be compared.
        verdicts: one per answer; `None` for an unjudged one.
        unjudged: why, by position of the answer.
        min_coverage: share of judged answers below which the result is incomplete.
        calls, retries: requests made, and those of them that repeated a failed one.
        recorded: answers whose verdict was on record from an earlier run.
        controls, flipped: answers that were asked about again beside a wrong reference, and those that the judge
            called right even then, so that they are unjudged.
    """

    judge: str
    verdicts: tuple[Verdict | None, ...]
    unjudged: Mapping[int, str] = field(default_factory=dict)
    min_coverage: float = 1.0
    calls: int = 0
    retries: int = 0
    recorded: int = 0
    controls: int = 0
    flipped: int = 0

    @property
    def accuracy(self) -> float | None:
        """Share of right answers among the judged ones, from 0 to 1; `None` where nothing was judged."""
        judged = [verdict.correct for verdict in self.verdicts if verdict is not None]
        return fmean(judged) if judged else None

    @property
    def mean_score(self) -> float | None:
        """Mean score from 0 to 5 over the graded answers; `None` where there is none."""
        scores = [verdict.score for verdict in self.verdicts if verdict is not None and verdict.score is not None]
        return fmean(scores) if scores else None

    @property
    def coverage(self) -> float:
        """Share of the answers that were judged, from 0 to 1."""
        return 1 - self.verdicts.count(None) / len(self.verdicts) if self.verdicts else 0.0

    @property
    def complete(self) -> bool:
        """Whether enough was judged for the accuracy to be quoted."""
        return self.accuracy is not None and self.coverage >= self.min_coverage

    @property
    def shortfall(self) -> str:
        """What to tell people of a judgement that is not complete."""
        judged, reasons = len(self.verdicts) - self.verdicts.count(None), Counter(self.unjudged.values())
        told = ", ".join(f"{reason} ({count})" for reason, count in reasons.most_common())
        return (f"incomplete, so there is no accuracy: {judged} of {len(self.verdicts)} answers were judged (coverage "
                f"{self.coverage:.1%}, wanted {self.min_coverage:.0%}) by {self.judge}: {told}")  # fmt: skip

    def to_dict(self) -> dict[str, JsonValue]:
        """The summary that belongs beside the accuracy in a result file."""
        return {
            "judge": self.judge,
            "accuracy": self.accuracy,
            "mean_score": self.mean_score,
            "answers": len(self.verdicts),
            "coverage": self.coverage,
            "complete": self.complete,
            "unjudged": dict(Counter(self.unjudged.values())),
            "calls": self.calls,
            "retries": self.retries,
            "recorded": self.recorded,
            "controls": self.controls,
            "flipped": self.flipped,
        }


@runtime_checkable
class Judge(Protocol):
    """Decides which answers are right."""

    @property
    def name(self) -> str:
        """What results call it; it tells an LLM judge from a string comparison."""

    def __call__(self, answers: Sequence[Answer]) -> Judgement:
        """One verdict per answer, in order."""
