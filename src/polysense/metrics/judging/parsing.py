"""From a judge's reply to a verdict. Only a reply that is nothing but a verdict gives one."""

from __future__ import annotations

import ast
import re

from polysense.metrics.judging.verdicts import Answer, Verdict

_LONGEST = 200  # characters; the demanded form has thirty
_CODE_BLOCK = re.compile(r"```(?:json|python|py)?\s*(.*?)\s*```", re.DOTALL | re.IGNORECASE)


def parse_verdict(reply: str, answer: Answer) -> Verdict | None:
    """The verdict in a judge's reply, or `None` if it does not have the demanded form.

    That is one dictionary or JSON object with exactly the keys `pred` ("yes" or "no") and `score` (a number from 0 to
    5, whole or not: MERA's prompt asks for an integer and shows 4.8), alone or in a code block. A reply that stands in
    the judged texts themselves is no verdict either: the judge may only have copied it.
    """
    text = reply.strip()
    if block := _CODE_BLOCK.fullmatch(text):
        text = block[1]
    text = text.removesuffix(".")  # the prompt's example ends a sentence
    pairs = _pairs(text)
    if pairs is None or _is_copied(text, answer):
        return None
    pred, score = pairs["pred"], pairs["score"]
    if not isinstance(pred, str) or isinstance(score, bool) or not isinstance(score, int | float):
        return None
    said = pred.strip().lower()
    return Verdict(said == "yes", float(score)) if said in ("yes", "no") and 0 <= score <= 5 else None


def _pairs(text: str) -> dict[str, object] | None:
    """A dictionary literal with the two keys, each once. JSON with strings and numbers is one, too."""
    if len(text) > _LONGEST or "\\" in text:
        return None
    try:
        node = ast.parse(text, mode="eval").body
        keys = [key.value for key in node.keys if isinstance(key, ast.Constant)] if isinstance(node, ast.Dict) else []
        if sorted(map(str, keys)) != ["pred", "score"]:
            return None
        value: dict[str, object] = ast.literal_eval(node)
    except (SyntaxError, ValueError, TypeError, MemoryError, RecursionError):
        return None
    return value


def _is_copied(text: str, answer: Answer) -> bool:
    """Whether the same letters and digits stand in one of the judged texts, whatever the marks between them."""
    said = _bare(text)
    return any(said in _bare(part) for part in (answer.prediction, answer.question, answer.reference))


def _bare(text: str) -> str:
    return re.sub(r"[^a-z0-9.]", "", text.lower())
