from __future__ import annotations

import asyncio

from eval.performance.judge_endpoint import Endpoint
from polysense.metrics.judging import Answer, Verdict
from polysense.metrics.judging.parsing import parse_verdict
from polysense.metrics.judging.prompt import messages


def reply(endpoint: Endpoint, answer: Answer) -> tuple[int, bytes]:
    status, _, body = asyncio.run(endpoint._answer(messages(answer)[1]["content"]))
    return status, body


def test_it_compares_prediction_and_reference() -> None:
    for prediction, verdict in (("a cube", Verdict(True, 5.0)), ("a cone", Verdict(False, 0.0))):
        answer = Answer("What?", "a cube", prediction)
        status, body = reply(Endpoint(0.0, 0.0), answer)
        content = body.split(b'"content": "')[1].split(b'"}')[0].decode()
        assert (status, parse_verdict(content, answer)) == (200, verdict)


def test_faults_hang_on_the_question_and_how_often_it_was_asked() -> None:
    first, second = Endpoint(0.0, 1.0), Endpoint(0.0, 1.0)
    answer = Answer("What is thing 1?", "a", "b")
    seen = [[reply(each, answer) for _ in range(3)] for each in (first, second)]
    assert seen[0] == seen[1]
    assert all(status in (429, 500) or b"'score'" not in body for status, body in seen[0] if status != 200)
