"""Benchmark P7j: an LLM judge that takes 50 ms, asked one after the other and with many requests in flight.

    python -m eval.performance.judge [--repeats 9] [--out eval/reports/performance]

Peer: one blocking post per sample, as evaluation harnesses do; same prompt, same parsing, same verdicts, which are
compared first. The endpoint runs in a process of its own on loopback. Then a rerun, which may not ask anything, and a
run in which 30 % of the requests fail. The exit code is 1 when a gate is missed.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import requests

from eval.performance.harness import Gate, Report, arguments, require, take_turns
from polysense.metrics.judging import Answer, Judgement, LlmJudge, LlmJudgeOptions, Patience, Verdict
from polysense.metrics.judging.parsing import parse_verdict
from polysense.metrics.judging.prompt import messages

ANSWERS, SECONDS, FAULTS = 640, 0.05, 0.3
GATES = {10: 8.0, 64: 20.0}
_PATIENCE = Patience(timeout=2.0, first_delay=0.05, longest_delay=1.0)


@contextmanager
def endpoint(seconds: float, faults: float = 0.0) -> Iterator[str]:
    """Address of a running endpoint."""
    command = [sys.executable, "-m", "eval.performance.judge_endpoint", str(seconds), str(faults)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            if process.stdout is None or not (port := process.stdout.readline().strip()):
                sys.exit("the endpoint did not start: nothing was timed")
            yield f"http://127.0.0.1:{port}/v1"
        finally:
            process.terminate()


def answers(count: int) -> list[Answer]:
    """Two in three are right."""
    return [Answer(f"What is thing {i}?", f"thing {i}", f"thing {i}" if i % 3 else "a cube") for i in range(count)]


def one_by_one(url: str, questions: list[Answer]) -> list[Verdict | None]:
    """A blocking post per sample."""
    verdicts = []
    for answer in questions:
        fields: Any = {"model": "fake", "messages": messages(answer), "temperature": 0, "max_tokens": 64}
        reply = requests.post(
            f"{url}/chat/completions", json=fields, headers={"Authorization": "Bearer -"}, timeout=10
        )
        verdicts.append(parse_verdict(reply.json()["choices"][0]["message"]["content"], answer))
    return verdicts


def in_flight(url: str, questions: list[Answer], many: int, record: Path | None = None) -> Judgement:
    options = LlmJudgeOptions(base_url=url, max_in_flight=many, patience=_PATIENCE)
    return LlmJudge("fake", options, record=record, api_key="-")(questions)


def measure_speed(report: Report, questions: list[Answer], repeats: int) -> None:
    with endpoint(SECONDS) as url:
        theirs = one_by_one(url, questions)
        for many in GATES:
            if list(in_flight(url, questions, many).verdicts) != theirs:
                sys.exit(f"the verdicts at {many} in flight are not those of one after the other: nothing was timed")
        sides = {"one by one": lambda: one_by_one(url, questions)} | {
            f"{many} in flight": lambda many=many: in_flight(url, questions, many) for many in GATES
        }
        timings = take_turns(sides, repeats)
    report.figures[f"{len(questions)} answers at {1000 * SECONDS:.0f} ms"] = timings
    for many, bound in GATES.items():
        ratio = timings["one by one"].min / timings[f"{many} in flight"].min
        report.gates.append(Gate(f"{many} in flight, times as fast", ratio, at_least=bound))


def measure_reliability(report: Report, questions: list[Answer]) -> None:
    truth = [answer.prediction == answer.reference for answer in questions]
    with tempfile.TemporaryDirectory() as folder, endpoint(SECONDS, FAULTS) as url:
        record = Path(folder) / "verdicts.jsonl"
        first = in_flight(url, questions, 64, record)
        asked = [i for i, verdict in enumerate(first.verdicts) if verdict is not None]
        rerun = in_flight(url, [questions[i] for i in asked], 64, record)
    wrong = sum(
        verdict is not None and verdict.correct != right for verdict, right in zip(first.verdicts, truth, strict=True)
    )
    report.figures[f"with {FAULTS:.0%} of the requests failing"] = first.to_dict()
    report.gates += [
        Gate(f"coverage with {FAULTS:.0%} of the requests failing", first.coverage, at_least=0.99),
        Gate("failures turned into verdicts", wrong, at_most=0),
        Gate("calls of a rerun", rerun.calls, at_most=0),
    ]


def main() -> int:
    require("openai", "requests")
    given = arguments("eval.performance.judge", __doc__, repeats=9)
    report = Report("judge", "python -m eval.performance.judge", given.seed, ("openai", "requests"))
    questions = answers(ANSWERS)
    measure_speed(report, questions, given.repeats)
    measure_reliability(report, questions)
    return report.write(given.out)


if __name__ == "__main__":
    sys.exit(main())
