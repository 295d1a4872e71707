"""The judge as a whole, against an endpoint on loopback that speaks the real protocol to the real client."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from polysense.errors import ConfigError
from polysense.metrics.judging import Judge, LlmJudge, LlmJudgeOptions, Patience, Verdict
from polysense.metrics.judging.record import VerdictRecord, old_verdict_key, verdict_key
from tests.metrics.judging.scripted import Asked, Endpoint, Reply, Script, compare, questions, scripted

HALF = '{"pred": "yes", "sco'


def judge(endpoint: Endpoint, record: Path | None = None, **changes: object) -> LlmJudge:
    return LlmJudge("tiny-judge", endpoint.options(**changes), record=record)


def test_verdicts_come_from_the_endpoint_in_order() -> None:
    with scripted(compare) as endpoint:
        result = judge(endpoint)(questions(20, right=7))
    assert [verdict.correct for verdict in result.verdicts if verdict] == [True] * 7 + [False] * 13
    assert (result.accuracy, result.mean_score, result.coverage, result.complete) == (0.35, 1.75, 1.0, True)
    assert (result.calls, result.retries, result.unjudged) == (20, 0, {})
    assert result.judge == "LLM judge tiny-judge (mera-table-8-fenced-1)"


def test_it_is_a_judge_by_the_protocol() -> None:
    assert isinstance(LlmJudge("m", LlmJudgeOptions(base_url="http://localhost:1/v1")), Judge)


def test_equal_answers_are_asked_about_once() -> None:
    with scripted(compare) as endpoint:
        result = judge(endpoint)(questions(3, right=1) * 5)
        assert len(endpoint.asked) == result.calls == 3
    assert result.accuracy == pytest.approx(1 / 3)


def test_the_request_is_greedy_and_takes_further_fields() -> None:
    with scripted(compare) as endpoint:
        judge(endpoint)(questions(1, right=1))
        judge(endpoint, request={"max_completion_tokens": 99})(questions(1, right=1))
        first, second = endpoint.asked
    assert (first.fields["model"], first.fields["temperature"], first.fields["max_tokens"]) == ("tiny-judge", 0, 64)
    assert "temperature" not in second.fields and second.fields["max_completion_tokens"] == 99


@pytest.mark.parametrize("limit", [1, 5])
def test_no_more_requests_are_under_way_than_allowed(limit: int) -> None:
    with scripted(lambda asked: Reply(delay=0.02)) as endpoint:
        judge(endpoint, max_in_flight=limit)(questions(15, right=15))
        assert endpoint.most_in_flight == limit


def test_it_works_inside_a_running_event_loop() -> None:
    """A notebook has one."""

    async def cell() -> float | None:
        return judge(endpoint)(questions(2, right=1)).accuracy

    with scripted(compare) as endpoint:
        assert asyncio.run(cell()) == 0.5


def test_an_interrupt_ends_the_judging_within_a_running_event_loop_too(tmp_path: Path) -> None:
    """Not when the deadline comes; what was judged by then is on record, and not asked for again."""

    async def cell() -> None:
        judge(endpoint, record, max_in_flight=1, patience=Patience(timeout=50.0, attempts=1))(questions(3, right=3))

    def script(asked: Asked) -> Reply:
        if slow and asked.answer.question == "What is thing 2?":
            os.kill(os.getpid(), signal.SIGINT)
            return Reply(delay=5)
        return compare(asked)

    record, slow, loop = tmp_path / "verdicts.jsonl", True, asyncio.new_event_loop()
    with scripted(script) as endpoint:
        begun = time.monotonic()
        with pytest.raises(KeyboardInterrupt):
            loop.run_until_complete(cell())
        assert time.monotonic() - begun < 4
        loop.close()
        slow = False
        again = judge(endpoint, record)(questions(3, right=3))
    assert (again.calls, again.recorded, again.accuracy) == (1, 2, 1.0)


def test_a_second_run_asks_nothing(tmp_path: Path) -> None:
    record = tmp_path / "deep" / "verdicts.jsonl"
    with scripted(compare) as endpoint:
        first = judge(endpoint, record)(questions(12, right=5))
        again = judge(endpoint, record)(questions(12, right=5))
        assert len(endpoint.asked) == 12
    assert again.verdicts == first.verdicts
    assert (again.calls, again.recorded, again.complete) == (0, 12, True)


def test_a_record_serves_only_the_model_it_was_made_with(tmp_path: Path) -> None:
    with scripted(compare) as endpoint:
        judge(endpoint, tmp_path / "verdicts.jsonl")(questions(2, right=1))
        LlmJudge("other-judge", endpoint.options(), record=tmp_path / "verdicts.jsonl")(questions(2, right=1))
        assert len(endpoint.asked) == 4


def test_half_a_reply_is_asked_for_once_more_and_then_unjudged(tmp_path: Path) -> None:
    def script(asked: Asked) -> Reply:
        return Reply(HALF) if asked.answer.question == "What is thing 1?" or not asked.number else compare(asked)

    with scripted(script) as endpoint:
        result = judge(endpoint, tmp_path / "verdicts.jsonl")(questions(4, right=4))
    assert [verdict is None for verdict in result.verdicts] == [False, True, False, False]
    assert (result.accuracy, result.coverage, result.complete) == (1.0, 0.75, False)
    assert (result.calls, result.retries, result.unjudged) == (8, 4, {1: "the reply is no verdict"})
    assert len(VerdictRecord(tmp_path / "verdicts.jsonl")) == 3  # what is no verdict is not on record


@pytest.mark.parametrize(
    ("reply", "reason", "calls"),
    [
        (Reply(status=429), "rate limit (429)", 3),
        (Reply(status=500), "server error (500)", 3),
        (Reply(status=503, headers={"Retry-After": "0"}), "server error (503)", 3),
        (Reply(cut=True), "connection failed", 3),
        (Reply(delay=1.2), "no reply in time", 3),
        (Reply(body=b'{"choices": [{"mess'), "malformed response", 3),
        (Reply(body=b"[]"), "malformed response", 3),
        (Reply(body=b"[" * 100_000), "malformed response", 3),
        (Reply(body=b'{"choices": []}'), "malformed response", 3),
        (Reply(content=None), "malformed response", 3),
        (Reply(body=b"<html>", headers={"Content-Type": "text/html"}), "malformed response", 3),
        (Reply(content="", message={"refusal": "I will not"}), "the judge refuses", 1),
        (Reply(status=400), "request rejected (400)", 1),
        (Reply(status=429, body=b'{"error": {"code": "insufficient_quota"}}'), "quota used up (429)", 1),
        (Reply(content=""), "the reply is no verdict", 2),
        (Reply(content="I cannot judge that."), "the reply is no verdict", 2),
    ],
)
def test_a_failure_is_counted_and_never_a_score(reply: Reply, reason: str, calls: int) -> None:
    with scripted(lambda _: reply) as endpoint:
        patience = Patience(timeout=0.8, attempts=3, first_delay=0.001)  # a busy machine is slow to answer
        result = judge(endpoint, patience=patience)(questions(1, right=1))
        assert len(endpoint.asked) == result.calls == calls
    assert result.verdicts == (None,)
    assert (result.accuracy, result.mean_score, result.coverage, result.complete) == (None, None, 0.0, False)
    assert result.unjudged == {0: reason}


def test_a_server_that_trickles_is_cut_off_by_the_time_limit_of_the_request() -> None:
    """Each byte comes in time; only the sum does not."""
    with scripted(lambda _: Reply(trickle=True)) as endpoint:
        begun = time.monotonic()
        result = judge(endpoint, patience=Patience(timeout=0.3, attempts=1))(questions(1, 1))
    assert result.unjudged == {0: "no reply in time"}
    assert time.monotonic() - begun < 3


def test_retry_after_is_honoured_by_all_requests() -> None:
    times: list[float] = []

    def script(asked: Asked) -> Reply:
        times.append(time.monotonic())
        return Reply(status=429, headers={"Retry-After": "1"}) if len(times) == 1 else Reply()

    with scripted(script) as endpoint:
        result = judge(endpoint, max_in_flight=1)(questions(4, right=4))
    assert result.complete and result.retries == 1
    assert times[1] - times[0] >= 1


def test_the_deadline_ends_the_run_and_a_second_one_goes_on(tmp_path: Path) -> None:
    slow = True

    def script(asked: Asked) -> Reply:
        return Reply(delay=5.0 if slow and asked.answer.question > "What is thing 3?" else 0.0)

    with scripted(script) as endpoint:
        begun = time.monotonic()
        first = judge(endpoint, tmp_path / "v", deadline=0.5)(questions(8, right=8))
        assert time.monotonic() - begun < 3
        assert set(first.unjudged.values()) == {"the deadline came first"}
        assert 0 < first.coverage < 1 and not first.complete
        slow = False
        second = judge(endpoint, tmp_path / "v")(questions(8, right=8))
    assert second.complete and second.recorded == 8 - len(first.unjudged)


def test_a_wait_beyond_the_deadline_is_not_waited_for() -> None:
    with scripted(lambda _: Reply(status=429, headers={"Retry-After": "3600"})) as endpoint:
        begun = time.monotonic()
        result = judge(endpoint)(questions(40, right=40))
        assert len(endpoint.asked) <= 16
    assert result.coverage == 0 and time.monotonic() - begun < 5


def test_an_endpoint_that_stops_answering_is_left_alone() -> None:
    def script(asked: Asked) -> Reply:
        return Reply() if int(asked.answer.question.split()[-1][:-1]) < 10 else Reply(status=400)

    with scripted(script) as endpoint:
        result = judge(endpoint, max_in_flight=1, give_up_after=5)(questions(100, right=100))
        assert len(endpoint.asked) == 15
    assert result.to_dict()["unjudged"] == {
        "request rejected (400)": 5,
        "not asked, because the endpoint had stopped answering": 85,
    }


@pytest.mark.parametrize("status", [401, 403, 404])
def test_a_wrong_key_address_or_model_is_said_at_once(status: int) -> None:
    with scripted(lambda _: Reply(status=status)) as endpoint:
        with pytest.raises(ConfigError, match=f"127.0.0.1: the judge's endpoint refuses every request.*{status}"):
            judge(endpoint)(questions(200, right=0))
        assert len(endpoint.asked) <= 16


def test_a_refusal_after_a_success_costs_one_answer_only() -> None:
    def script(asked: Asked) -> Reply:
        return Reply(status=403) if asked.answer.question == "What is thing 2?" else Reply()

    with scripted(script) as endpoint:
        result = judge(endpoint, max_in_flight=1)(questions(5, right=5))
    assert result.unjudged == {2: "request rejected (403)"}


def faulty(share: float) -> tuple[Counter[str], Script]:
    """A judge that compares, but fails in that share of its requests, in every way; the draws hang on the question."""
    faults: Counter[str] = Counter()
    replies = {
        "429": Reply(status=429, headers={"Retry-After": "0.01"}),
        "500": Reply(status=500),
        "timeout": Reply(delay=0.4),
        "cut": Reply(cut=True),
        "half": Reply(HALF),
        "empty": Reply(body=b""),
    }

    def script(asked: Asked) -> Reply:
        draw = random.Random(f"{asked.answer.question} {asked.number}")
        if draw.random() >= share:
            return compare(asked)
        kind = draw.choice(list(replies))
        faults[kind] += 1
        return replies[kind]

    return faults, script


def test_with_three_in_ten_requests_failing_nearly_all_is_judged_and_rightly() -> None:
    faults, script = faulty(0.3)
    answers = questions(300, right=180)
    with scripted(script) as endpoint:
        patience = Patience(timeout=0.2, first_delay=0.002, longest_delay=0.02)
        result = judge(endpoint, patience=patience, max_in_flight=32)(answers)
    assert len(faults) == 6 and result.retries >= 80
    for answer, verdict in zip(answers, result.verdicts, strict=True):
        assert verdict is None or verdict.correct == (answer.prediction == answer.reference)
    assert result.coverage >= 0.99 and result.complete
    assert result.accuracy == pytest.approx(0.6, abs=0.01)


def test_with_nine_in_ten_requests_failing_the_result_is_marked_incomplete() -> None:
    _, script = faulty(0.9)
    answers = questions(60, right=30)
    with scripted(script) as endpoint:
        patience = Patience(timeout=0.2, attempts=3, first_delay=0.002, longest_delay=0.02)
        result = judge(endpoint, patience=patience, max_in_flight=32)(answers)
    assert result.coverage < 0.9 and not result.complete
    assert len(result.unjudged) == sum(verdict is None for verdict in result.verdicts)
    for answer, verdict in zip(answers, result.verdicts, strict=True):
        assert verdict is None or verdict.correct == (answer.prediction == answer.reference)


def test_a_verdict_holds_for_the_endpoint_request_and_controls_that_it_was_asked_with(tmp_path: Path) -> None:
    record, answers = tmp_path / "verdicts.jsonl", questions(4, right=4)
    with scripted(compare) as endpoint, scripted(compare) as other:
        judge(endpoint, record)(answers)
        changes: list[dict[str, Any]] = [{"controls": "all"}, {"request": {"max_tokens": 9}}, {"base_url": other.url}]
        for number, change in enumerate(changes, start=1):
            assert judge(endpoint, record, **change)(answers).recorded == 0
            assert len(VerdictRecord(record)) == 4 * (number + 1)
        before = len(endpoint.asked), len(other.asked)
        for change in ({}, *changes, {"base_url": f"{endpoint.url}/"}):
            assert judge(endpoint, record, **change)(answers).recorded == 4
        assert (len(endpoint.asked), len(other.asked)) == before


def test_a_record_that_does_not_tell_how_it_came_about_is_asked_for_again_and_kept(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    answers = questions(3, right=3)
    with VerdictRecord(tmp_path / "verdicts.jsonl") as record:
        for answer in answers[:2]:
            record.put(old_verdict_key("tiny-judge", answer), Verdict(False, 0.0))
    with scripted(compare) as endpoint:
        result = judge(endpoint, tmp_path / "verdicts.jsonl")(answers)
        assert (result.accuracy, result.recorded) == (1.0, 0)
        assert "verdicts.jsonl: 2 verdicts do not tell by which endpoint" in caplog.text
        caplog.clear()
        assert judge(endpoint, tmp_path / "verdicts.jsonl")(answers).calls == 0 and not caplog.records
    assert len(VerdictRecord(tmp_path / "verdicts.jsonl")) == 5


@pytest.mark.parametrize("kills", [(40,), pytest.param((1, 20, 45, 70, 100), marks=pytest.mark.slow)])
def test_a_killed_run_goes_on_where_it_was(kills: tuple[int, ...], tmp_path: Path) -> None:
    """Killed in the midst: nothing on record is asked again, and at most the requests under way are."""
    record, count, in_flight = tmp_path / "verdicts.jsonl", 120, 4
    with scripted(lambda asked: replace(compare(asked), delay=0.02)) as endpoint:
        for enough in kills:
            command = [sys.executable, "-m", "tests.metrics.judging.child", endpoint.url, str(record), str(count)]
            with subprocess.Popen(command) as child:
                while len(VerdictRecord(record)) < enough and child.poll() is None:
                    time.sleep(0.005)
                child.send_signal(signal.SIGKILL)
            assert child.returncode == -signal.SIGKILL
            assert enough <= len(VerdictRecord(record)) < count
        kept = len(VerdictRecord(record))
        result = judge(endpoint, record, max_in_flight=in_flight)(questions(count, right=count // 2))
        settings = judge(endpoint, record).settings
        keys = [verdict_key(settings, asked.answer) for asked in endpoint.asked]
    assert (result.complete, result.accuracy, result.recorded, result.calls) == (True, 0.5, kept, count - kept)
    assert len(set(keys)) == count
    assert len(keys) - count <= len(kills) * in_flight
