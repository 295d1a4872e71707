"""One OpenAI-compatible chat endpoint, asked with patience: time limits, backoff, `Retry-After`, and no key leaked."""

from __future__ import annotations

import asyncio
import os
import random
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from ipaddress import IPv4Address
from types import ModuleType
from typing import Any, Self
from urllib.parse import urlsplit

from polysense.errors import ConfigError
from polysense.modality import JsonValue

_LOCAL_KEY = "not-needed"  # the client insists on one; servers at home ignore it
_REFUSING = {401, 403, 404}  # the key, the rights or the model's name is wrong: so it is for every answer
_ADDRESS = re.compile(r"https?://[^/@?#\x00-\x20]+(/[^?#\x00-\x20]*)?")
_PASSING = {408, 409, 429}


@dataclass(frozen=True)
class Unanswered:
    """Why there is no reply. A value and not an exception: it is counted, and must not carry a server's words along.

    Attributes:
        reason: in the words of the result's count.
        final: asking again would bring the same.
        refusing: the endpoint would say so to any request.
        closed_for: seconds for which it asked to be left alone.
    """

    reason: str
    final: bool = False
    refusing: bool = False
    closed_for: float | None = None


LATE = Unanswered("the deadline came first")


@dataclass(frozen=True)
class Patience:
    """How long to try.

    Attributes:
        timeout: seconds for one request, whatever the server does meanwhile.
        attempts: requests per question before it counts as unanswered.
        first_delay: seconds before the second attempt; doubled each time up to `longest_delay`, less up to a half at
            random so that many do not come back at once. A `Retry-After` of the server holds for all requests.
    """

    timeout: float = 60.0
    attempts: int = 8
    first_delay: float = 0.5
    longest_delay: float = 30.0

    def delay(self, failures: int) -> float:
        """Seconds to wait after so many failures in a row."""
        longest = min(self.longest_delay, self.first_delay * 2.0 ** (failures - 1))
        return longest * random.uniform(0.5, 1)


class ChatEndpoint:
    """A chat model at an endpoint; ask it inside `async with`.

    Args:
        model: name that the endpoint knows.
        base_url: up to and including `/v1`; `None` for OpenAI's.
        api_key: see `find_key`.
        request: further fields of each request, such as temperature and max_tokens.
        patience: time limits and repeats.
        deadline: `time.monotonic()` after which nothing is waited for.

    Attributes:
        calls, retries: requests made, and those of them that repeated a failed one.
    """

    def __init__(
        self,
        model: str,
        base_url: str | None,
        api_key: str,
        request: Mapping[str, JsonValue],
        patience: Patience,
        deadline: float,
    ) -> None:
        self.deadline, self.calls, self.retries = deadline, 0, 0
        self._connect = {"base_url": base_url, "api_key": api_key, "max_retries": 0, "timeout": patience.timeout}
        self._request, self._patience = {"model": model, **request}, patience
        self._closed_until, self._has_replied = 0.0, False

    async def __aenter__(self) -> Self:
        self._openai = load_client()
        self._client = self._openai.AsyncOpenAI(**self._connect)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._client.close()

    async def ask(self, messages: list[dict[str, str]]) -> str | Unanswered:
        """The text of the model's reply, or why there is none after all attempts.

        Raises:
            ConfigError: the endpoint refuses the key or does not know the model, and has never replied yet.
        """
        outcome: str | Unanswered = LATE
        for failures in range(self._patience.attempts):
            pause = time.monotonic() + self._patience.delay(failures) if failures else 0.0
            if not await self._wait_until(pause):
                return LATE
            self.calls += 1
            self.retries += failures > 0
            outcome = await self._post(messages)
            if isinstance(outcome, str):
                self._has_replied = True
                return outcome
            if outcome.refusing and not self._has_replied:
                raise ConfigError(
                    f"the judge's endpoint refuses every request: {outcome.reason}",
                    where=self._client.base_url.host,
                    fix="Check the key, the address (up to /v1) and the model's name.",
                )
            if outcome.final:
                break
            if outcome.closed_for is not None:
                self._closed_until = max(self._closed_until, time.monotonic() + outcome.closed_for)
        return outcome

    async def _wait_until(self, moment: float) -> bool:
        """Wait until then and until the endpoint is open to all; `False` at once if the deadline comes first."""
        while True:
            moment = max(moment, self._closed_until)
            if moment > self.deadline:
                return False
            if (left := moment - time.monotonic()) <= 0:
                return True
            await asyncio.sleep(left)

    async def _post(self, messages: list[dict[str, str]]) -> str | Unanswered:
        try:
            async with asyncio.timeout(self._patience.timeout):
                body = await self._client.post(
                    "/chat/completions", cast_to=object, body={**self._request, "messages": messages}
                )
        except (TimeoutError, self._openai.APITimeoutError):
            return Unanswered("no reply in time")
        except self._openai.APIConnectionError:
            return Unanswered("connection failed")
        except self._openai.APIStatusError as error:
            return _meaning(error)
        except (ValueError, RecursionError, self._openai.OpenAIError):
            return Unanswered("malformed response")
        return _content(body)


def _meaning(error: Any) -> Unanswered:
    """What an HTTP status means; the response's text is left out, it may quote the request's headers."""
    status = error.status_code
    if status == 429 and error.code == "insufficient_quota":
        return Unanswered("quota used up (429)", final=True)
    if status in _PASSING or status >= 500:
        return Unanswered(
            "rate limit (429)" if status == 429 else f"server error ({status})",
            closed_for=_retry_after(error.response.headers),
        )
    return Unanswered(f"request rejected ({status})", final=True, refusing=status in _REFUSING)


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds of a `Retry-After` header (a number or a date) or OpenAI's `retry-after-ms`."""
    try:
        if "retry-after-ms" in headers:
            return max(0.0, float(headers["retry-after-ms"]) / 1000)
        stated = headers.get("retry-after", "")
        if stated.replace(".", "", 1).isdigit():
            return float(stated)
        return max(0.0, parsedate_to_datetime(stated).timestamp() - time.time())
    except (ValueError, TypeError, OverflowError):
        return None


def _content(body: Any) -> str | Unanswered:
    """The reply's text in a chat completion."""
    try:
        choice = body["choices"][0]
        message = choice["message"]
        content = message["content"]
        refused = message.get("refusal") or choice.get("finish_reason") == "content_filter"
    except (KeyError, IndexError, TypeError, AttributeError):
        return Unanswered("malformed response")
    if refused:
        return Unanswered("the judge refuses", final=True)
    return content if isinstance(content, str) else Unanswered("malformed response")


def load_client() -> ModuleType:
    """The `openai` package, which only this judge needs.

    Raises:
        ConfigError: it is not installed.
    """
    try:
        import openai
    except ImportError as error:
        raise ConfigError(
            "an LLM judge needs the package openai, which is not installed",
            fix="Install it with: pip install 'polysense[judge]'.",
        ) from error
    return openai


def check_proxies() -> None:
    """Refuse proxies of the environment that no client can use, without telling them: they may hold a password.

    Raises:
        ConfigError: see above.
    """
    openai = load_client()
    try:
        openai.OpenAI(base_url="http://localhost/v1", api_key=_LOCAL_KEY).close()
    # a wrong address or port, an unknown scheme, a missing package: each has an error of its own
    except Exception as error:
        raise ConfigError(f"the proxies of the environment cannot be used ({type(error).__name__})",
                          where="HTTP_PROXY, HTTPS_PROXY, ALL_PROXY",
                          fix="Correct these variables, or install socksio for a SOCKS proxy.") from None  # fmt: skip


def check_address(url: str, *, where: str) -> None:
    """Refuse an address that no request could ever be sent to.

    Raises:
        ConfigError: it is none of http or https, holds more than host, port and path, or has an impossible one.
    """
    try:
        parts = urlsplit(url)
        host = (parts.hostname or "").encode("idna").decode()
        if host.replace(".", "").isdigit():
            IPv4Address(host)
        usable = _ADDRESS.fullmatch(url) is not None and parts.port != 0  # a port beyond all raises
    except ValueError:
        usable = False
    if not usable:
        raise ConfigError("the judge's address is not a plain http or https address", where=where,
                          fix="Give one such as http://localhost:8000/v1; the key has its own place.")  # fmt: skip


def find_key(base_url: str | None, api_key: str | None) -> str:
    """The key given, else that of the environment, else a placeholder for a server of one's own.

    The line's end of the file that a key was read from is no part of it.

    Raises:
        ConfigError: OpenAI's endpoint is meant and there is no key for it, or the key has characters that no request
            can carry, so that all would fail.
    """
    given = (api_key or "").strip() or os.environ.get("OPENAI_API_KEY", "").strip()
    key = given or (_LOCAL_KEY if base_url else "")
    if not (key.isascii() and key.isprintable()):
        raise ConfigError("the key holds characters that no request can carry", where="OPENAI_API_KEY",
                          fix="Copy it again: a key has printable ASCII characters alone.")  # fmt: skip
    if not key:
        raise ConfigError(
            "there is no key for OpenAI's endpoint",
            where="OPENAI_API_KEY",
            fix="Set this variable, or name another OpenAI-compatible endpoint as base_url.",
        )
    return key
