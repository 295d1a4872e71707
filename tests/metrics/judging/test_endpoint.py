from __future__ import annotations

import importlib.util
import logging
import sys
import time
import traceback
from email.utils import formatdate
from pathlib import Path

import pytest

from polysense.errors import ConfigError
from polysense.metrics.judging import LlmJudge, LlmJudgeOptions, Patience
from polysense.metrics.judging.endpoint import _retry_after, find_key
from tests.metrics.judging.scripted import Reply, compare, questions, scripted

CANARY = "sk-canaryCanaryCanary0123456789"


def test_delays_double_up_to_a_limit_and_vary() -> None:
    patience = Patience(first_delay=1.0, longest_delay=5.0)
    for failures, longest in ((1, 1), (2, 2), (3, 4), (4, 5), (50, 5)):
        delays = [patience.delay(failures) for _ in range(200)]
        assert longest / 2 <= min(delays) < max(delays) <= longest
        assert max(delays) - min(delays) > longest / 4


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": "0.5"}, 0.5),
        ({"retry-after-ms": "250", "retry-after": "9"}, 0.25),
        ({"retry-after": formatdate(time.time() - 60, usegmt=True)}, 0.0),
        ({}, None),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "-3"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after-ms": "x"}, None),
    ],
)
def test_retry_after_in_all_its_forms(headers: dict[str, str], seconds: float | None) -> None:
    assert _retry_after(headers) == seconds


def test_retry_after_as_a_date() -> None:
    assert _retry_after({"retry-after": formatdate(time.time() + 30, usegmt=True)}) == pytest.approx(30, abs=3)


@pytest.mark.parametrize(
    "reply",
    [
        Reply(status=401, body=f'{{"error": {{"message": "Incorrect API key: {CANARY}"}}}}'.encode()),
        Reply(status=400, body=f'{{"error": {{"message": "{CANARY}"}}}}'.encode()),
        Reply(status=500, body=f"Authorization: Bearer {CANARY}".encode()),
        Reply(status=429, body=CANARY.encode()),
        Reply(f"{{'pred': 'yes', 'score': '{CANARY}'}}"),
        Reply(),
    ],
    ids=["401", "400", "500", "429", "no verdict", "verdict"],
)
def test_the_key_reaches_the_endpoint_and_nothing_else(
    reply: Reply, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The endpoint quotes the key in whatever it says."""
    monkeypatch.setenv("OPENAI_API_KEY", CANARY)
    caplog.set_level(logging.INFO)
    written = ""
    with scripted(lambda _: reply) as endpoint:
        patience = Patience(timeout=1.0, attempts=2, first_delay=0.001)
        judge = LlmJudge("tiny-judge", endpoint.options(patience=patience), record=tmp_path / "verdicts.jsonl")
        try:
            written += str(judge(questions(2, right=2)))
        except ConfigError as error:
            written += "".join(traceback.format_exception(error)) + repr(vars(error)) + repr(error.__context__)
        assert {asked.key for asked in endpoint.asked} == {f"Bearer {CANARY}"}
    written += caplog.text + repr(judge) + repr(judge.options)
    written += "".join(path.read_text() for path in tmp_path.rglob("*") if path.is_file())
    assert written and CANARY not in written


def test_a_server_of_ones_own_needs_no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with scripted(compare) as endpoint:
        assert LlmJudge("tiny-judge", endpoint.options())(questions(1, right=1)).complete
    with pytest.raises(ConfigError, match="OPENAI_API_KEY: there is no key"):
        LlmJudge("gpt-4o-mini")


def test_a_given_key_comes_before_that_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "of the environment")
    assert find_key(None, "given") == "given"
    assert find_key(None, None) == "of the environment"


@pytest.mark.parametrize("key", ["sk-1\n", " sk-1", "sk-1\r\n"])
def test_the_space_around_a_key_is_none_of_it(key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert find_key(None, key) == "sk-1"
    monkeypatch.setenv("OPENAI_API_KEY", key)
    assert find_key(None, " ") == find_key("http://localhost/v1", None) == "sk-1"


@pytest.mark.parametrize("key", ["sk-secr\u00e9t", "sk-\nsecret", "sk-\x00secret"])
def test_a_key_that_no_request_can_carry_is_refused_and_not_told(key: str) -> None:
    with pytest.raises(ConfigError, match="characters that no request can carry") as caught:
        LlmJudge("m", api_key=key)
    assert "secr" not in str(caught.value)


@pytest.mark.parametrize("proxy", ["http://me:secret@proxy:port", "ftp://me:secret@proxy", "socks5://me:secret@x:1"])
def test_proxies_that_cannot_be_used_are_refused_before_anything_is_judged(
    proxy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if proxy.startswith("socks5") and importlib.util.find_spec("socksio"):
        pytest.skip("this one can be used")
    monkeypatch.setenv("ALL_PROXY", proxy)
    with pytest.raises(ConfigError, match="the proxies of the environment cannot be used") as caught:
        LlmJudge("m", LlmJudgeOptions(base_url="http://localhost:1/v1"))
    assert "secret" not in "".join(traceback.format_exception(caught.value))


def test_the_address_may_come_from_the_environment_as_for_the_client_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with scripted(compare) as endpoint:
        monkeypatch.setenv("OPENAI_BASE_URL", endpoint.url)
        assert LlmJudge("tiny-judge")(questions(1, right=1)).complete


@pytest.mark.parametrize("address", ["nowhere", "http://localhost:99999/v1"])
def test_an_impossible_address_of_the_environment_is_refused_before_anything_is_judged(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", address)
    with pytest.raises(ConfigError, match=r"^OPENAI_BASE_URL: the judge's address is not a plain http"):
        LlmJudge("tiny-judge")


@pytest.mark.parametrize(
    "url", ["http://[::1]:1/v1", "https://my_judge/v1", "http://löcal.host:80", "http://10.0.0.1/"]
)
def test_every_possible_address_is_taken(url: str) -> None:
    assert LlmJudgeOptions(base_url=url).base_url == url


def test_a_missing_client_is_said_with_the_extra_that_brings_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openai", None)
    with pytest.raises(ConfigError, match=r"pip install 'polysense\[judge\]'"):
        LlmJudge("m", LlmJudgeOptions(base_url="http://localhost:1/v1"))


@pytest.mark.parametrize(
    ("changes", "where"),
    [
        ({"max_in_flight": 0}, "max_in_flight"),
        ({"deadline": 0.0}, "deadline"),
        ({"deadline": float("nan")}, "deadline"),
        ({"patience": Patience(timeout=-1.0)}, "patience.timeout"),
        ({"patience": Patience(attempts=0)}, "patience.attempts"),
        ({"give_up_after": 0}, "give_up_after"),
        ({"min_coverage": 1.5}, "min_coverage"),
        ({"base_url": "localhost:8000"}, "base_url"),
        ({"base_url": "http://user:secret@host/v1"}, "base_url"),
        ({"base_url": "http://host/v1?key=secret"}, "base_url"),
        ({"base_url": "http://localhost:99999/v1"}, "base_url"),
        ({"base_url": "http://localhost:port/v1"}, "base_url"),
        ({"base_url": "http://[::1/v1"}, "base_url"),
        ({"base_url": "http://127.0.0.999/v1"}, "base_url"),
        ({"base_url": "http://löcal..host/v1"}, "base_url"),
        ({"base_url": "http://localhost/v1\n"}, "base_url"),
        ({"request": {"stream": True}}, "request"),
        ({"request": {"top_p": float("nan")}}, "request"),
        ({"request": {"stop": b"end"}}, "request"),
    ],
)
def test_options_that_cannot_work_are_refused_at_once(changes: dict[str, object], where: str) -> None:
    with pytest.raises(ConfigError, match=f"^{where}: ") as error:
        LlmJudgeOptions(**changes)  # type: ignore[arg-type]
    assert "secret" not in str(error.value)
