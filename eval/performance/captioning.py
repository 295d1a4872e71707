"""Benchmark P7: CIDEr-D beside the COCO caption evaluation, on 5,000 samples with five references each.

    python -m eval.performance.captioning [--repeats 9] [--threads 1] [--out eval/reports/performance]

The captions are drawn from a Zipf vocabulary of 3,000 words, 6 to 15 words each; a prediction shares its first half
with a reference. Peer: pycocoevalcap's `Cider`, given the same tokens; every sample's score is compared first. Where
a Java machine is installed, its tokenizer is timed beside ours on the same captions with punctuation, and the tokens
are compared. The exit code is 1 when a gate is missed.
"""

from __future__ import annotations

import shutil
import sys
from importlib import import_module
from typing import Any

import numpy as np

from eval.performance.harness import Gate, Report, arguments, require, take_turns
from polysense.metrics import cider_d
from polysense.metrics.tokenizers import ptb_tokens

SAMPLES, REFERENCES, WORDS = 5000, 5, 3000
PUNCTUATION = (".", ",", "'s", " -", "...", "!", "-like")


def captions(seed: int, samples: int) -> tuple[list[str], list[list[str]]]:
    """Predictions and references, as lower-case words with single spaces."""
    rng = np.random.default_rng(seed)
    shares = 1 / np.arange(1, WORDS + 1)

    def caption() -> list[str]:
        return [f"w{word}" for word in rng.choice(WORDS, rng.integers(6, 16), p=shares / shares.sum())]

    references = [[caption() for _ in range(REFERENCES)] for _ in range(samples)]
    predictions = [" ".join(each[0][: len(each[0]) // 2] + caption()[:6]) for each in references]
    return predictions, [[" ".join(words) for words in each] for each in references]


def peer_score(predictions: list[str], references: list[list[str]]) -> Any:
    results = {i: [prediction] for i, prediction in enumerate(predictions)}
    return import_module("pycocoevalcap.cider.cider").Cider().compute_score(dict(enumerate(references)), results)


def largest_difference(predictions: list[str], references: list[list[str]]) -> float:
    _, theirs = peer_score(predictions, references)
    return float(np.abs(cider_d(predictions, references, tokenizer="whitespace").per_sample - theirs).max())


def compare_tokenizers(report: Report, texts: list[str], repeats: int) -> None:
    """Java's tokenizer, one start for all captions, beside ours."""
    wrapped = {i: [{"caption": text}] for i, text in enumerate(texts)}
    java = import_module("pycocoevalcap.tokenizer.ptbtokenizer").PTBTokenizer()
    theirs = java.tokenize(wrapped)
    equal = sum(ptb_tokens(text) == theirs[i][0].split() for i, text in enumerate(texts))
    report.figures["tokens equal to Java's"] = {"captions": len(texts), "equal": equal}
    report.figures["tokenizing"] = take_turns(
        {
            "pycocoevalcap (Java)": lambda: java.tokenize(wrapped),
            "ours": lambda: list(map(ptb_tokens, texts)),
        },
        repeats,
    )
    report.gates.append(Gate("share of captions with Java's tokens", equal / len(texts), at_least=0.999))


def main() -> int:
    require("pycocoevalcap")
    given = arguments("eval.performance.captioning", __doc__, repeats=9)
    predictions, references = captions(given.seed, SAMPLES)
    report = Report(
        "captioning", "python -m eval.performance.captioning", given.seed, ("numpy", "scipy", "pycocoevalcap")
    )
    report.gates.append(
        Gate("largest difference of a sample's score", largest_difference(predictions, references), at_most=1e-9)
    )
    timings = take_turns(
        {
            "pycocoevalcap": lambda: peer_score(predictions, references),
            "ours": lambda: cider_d(predictions, references, tokenizer="whitespace"),
        },
        given.repeats,
    )
    report.figures[f"CIDEr-D of {SAMPLES} x {REFERENCES}"] = timings
    report.gates.append(
        Gate("CIDEr-D, times as fast", timings["pycocoevalcap"].min / timings["ours"].min, at_least=10)
    )
    if shutil.which("java"):
        rng = np.random.default_rng(given.seed)
        texts = [text + str(rng.choice(PUNCTUATION)) for each in references for text in each]
        compare_tokenizers(report, texts, given.repeats)
    return report.write(given.out)


if __name__ == "__main__":
    sys.exit(main())
