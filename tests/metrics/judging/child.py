"""A judging run in its own process, to be killed: `python -m tests.metrics.judging.child ADDRESS RECORD COUNT`."""

from __future__ import annotations

import sys
from pathlib import Path

from polysense.metrics.judging import LlmJudge, LlmJudgeOptions
from tests.metrics.judging.scripted import questions


def main(address: str, record: Path, count: int) -> None:
    options = LlmJudgeOptions(base_url=address, max_in_flight=4)
    LlmJudge("tiny-judge", options, record=record)(questions(count, right=count // 2))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))
