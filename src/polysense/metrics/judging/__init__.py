"""Accuracy of free-form answers by a judge: an LLM behind any OpenAI-compatible endpoint, or a plain comparison."""

from polysense.metrics.judging.endpoint import Patience
from polysense.metrics.judging.llm import LlmJudge, LlmJudgeOptions
from polysense.metrics.judging.matching import NormalisedMatchJudge
from polysense.metrics.judging.verdicts import Answer, Judge, Judgement, Verdict

__all__ = [
    "Answer",
    "Judge",
    "Judgement",
    "LlmJudge",
    "LlmJudgeOptions",
    "NormalisedMatchJudge",
    "Patience",
    "Verdict",
]
