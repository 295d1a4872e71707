"""Accuracy by an LLM judge (MERA, appendix C): many requests in flight, resumable, honest about what is missing."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import secrets
import time
from collections.abc import Coroutine, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from tqdm import tqdm

from polysense.errors import ConfigError
from polysense.metrics.judging.endpoint import (
    LATE,
    ChatEndpoint,
    Patience,
    Unanswered,
    check_address,
    check_proxies,
    find_key,
)
from polysense.metrics.judging.parsing import parse_verdict
from polysense.metrics.judging.prompt import PROMPT_VERSION, addresses_the_judge, messages
from polysense.metrics.judging.record import VerdictRecord, old_verdict_key, verdict_key
from polysense.metrics.judging.verdicts import Answer, Judgement, Verdict
from polysense.modality import JsonValue

logger = logging.getLogger(__name__)

_OWN_FIELDS = {"model", "messages", "stream"}


@dataclass(frozen=True, kw_only=True)
class LlmJudgeOptions:
    """How an `LlmJudge` asks.

    Attributes:
        base_url: an OpenAI-compatible endpoint up to and including `/v1`; OpenAI's by default.
        max_in_flight: requests under way at once.
        patience: time limits and repeats of one request.
        deadline: seconds for all answers together; what is not judged by then is unjudged.
        min_coverage: share of judged answers below which a result is marked incomplete.
        controls: which answers called right are asked about again beside a random reference, where a judge that
            compares says no and one that obeys the answer says yes: `suspicious` (those that seem to address the
            judge), `all` or `none`.
        give_up_after: so many unanswered questions in a row end the run; the rest is unjudged.
        request: further fields of each request. Some models want others, such as max_completion_tokens.

    Raises:
        ConfigError: a limit that is not positive, a share outside 0 to 1, an impossible address, other controls, or
            fields of a request that are not JSON or the judge's own.
    """

    base_url: str | None = None
    max_in_flight: int = 16
    patience: Patience = field(default_factory=Patience)
    deadline: float = 3600.0
    min_coverage: float = 0.99
    controls: Literal["suspicious", "all", "none"] = "suspicious"
    give_up_after: int = 50
    request: Mapping[str, JsonValue] = field(default_factory=lambda: {"temperature": 0, "max_tokens": 64})

    def __post_init__(self) -> None:
        positive = {
            "max_in_flight": self.max_in_flight,
            "patience.timeout": self.patience.timeout,
            "patience.attempts": self.patience.attempts,
            "deadline": self.deadline,
            "give_up_after": self.give_up_after,
        }
        for name, value in positive.items():
            if not value > 0:
                raise ConfigError(f"{value} is not above zero", where=name, fix="Give a positive number.")
        if self.base_url is not None:
            check_address(self.base_url, where="base_url")
        if not 0 <= self.min_coverage <= 1:
            raise ConfigError(
                f"{self.min_coverage} is no share", where="min_coverage", fix="Give a number from 0 to 1."
            )
        if self.controls not in ("suspicious", "all", "none"):
            raise ConfigError(f"{self.controls!r} is none of suspicious, all, none", where="controls", fix="Take one.")
        if own := sorted(_OWN_FIELDS & set(self.request)):
            raise ConfigError(f"{own} of a request are the judge's own", where="request", fix="Leave them out.")
        try:
            json.dumps(dict(self.request), allow_nan=False)
        except (TypeError, ValueError) as error:
            raise ConfigError(
                f"the fields are not JSON ({error})", where="request", fix="Use plain values."
            ) from error


class LlmJudge:
    """A chat model that decides by MERA's prompt (Table 8) whether answers mean the same as their references.

    Every parsed verdict is recorded at once, so that a run that was killed, or ended by its deadline, goes on where it
    was, and one that finished is repeated without a request. A verdict of another model, endpoint, request or kind of
    controls is none of this judge's; nor is one of a record that does not tell these yet, which is asked for again,
    with a warning, and stays in the file. Nothing but a well-formed reply of the judge gives a
    verdict; whatever goes wrong leaves the answer unjudged, and counted.

    Args:
        model: name that the endpoint knows, such as "gpt-4o-mini".
        options: endpoint, limits and controls.
        record: JSONL file of verdicts, made if need be; without one they are kept for one call only.
        api_key: by default that of the environment variable OPENAI_API_KEY. It is never logged or written.

    Raises:
        ConfigError: the package openai is missing, there is no key or none that can be sent, the address or a proxy of
            the environment is impossible, or the record cannot be used. Calling the judge also raises it if the
            endpoint refuses the key or the model from the start.
    """

    def __init__(
        self,
        model: str,
        options: LlmJudgeOptions | None = None,
        *,
        record: str | Path | None = None,
        api_key: str | None = None,
    ) -> None:
        check_proxies()
        VerdictRecord(record)  # what is wrong with the file is told before there are answers to judge
        self.model, self.options, self._record = model, options or LlmJudgeOptions(), record
        self._base_url = self.options.base_url or os.environ.get("OPENAI_BASE_URL")  # as the client itself has it
        if self._base_url:
            check_address(self._base_url, where="OPENAI_BASE_URL")
        self._key = find_key(self._base_url, api_key)

    @property
    def name(self) -> str:
        return f"LLM judge {self.model} ({PROMPT_VERSION})"

    @property
    def settings(self) -> dict[str, JsonValue]:
        """What a verdict depends on beside the judged texts."""
        options, address = self.options, (self._base_url or "").rstrip("/")
        return {"model": self.model, "base_url": address, "request": dict(options.request),
                "controls": options.controls}  # fmt: skip

    def __call__(self, answers: Sequence[Answer]) -> Judgement:
        """Judge all answers; equal ones are asked about once."""
        options = self.options
        deadline = time.monotonic() + options.deadline
        endpoint = ChatEndpoint(self.model, self._base_url, self._key, options.request, options.patience, deadline)
        keys = [verdict_key(self.settings, answer) for answer in answers]
        with VerdictRecord(self._record) as record:
            self._warn_of_old(record, keys, answers)
            recorded = sum(record.get(key) is not None for key in keys)
            run = _Run(endpoint, options, record)
            if questions := {k: answer for k, answer in zip(keys, answers, strict=True) if record.get(k) is None}:
                _complete(run.ask_all(questions))
            verdicts = tuple(map(record.get, keys))
        return Judgement(
            judge=self.name,
            verdicts=verdicts,
            unjudged={i: run.reasons[keys[i]] for i, verdict in enumerate(verdicts) if verdict is None},
            min_coverage=options.min_coverage,
            calls=endpoint.calls,
            retries=endpoint.retries + run.asked_twice,
            recorded=recorded,
            controls=run.controls,
            flipped=run.flipped,
        )

    def _warn_of_old(self, record: VerdictRecord, keys: Sequence[str], answers: Sequence[Answer]) -> None:
        old = [old_verdict_key(self.model, each) for key, each in zip(keys, answers, strict=True) if key not in record]
        if count := sum(key in record for key in old):
            logger.warning("%s: %d verdicts do not tell by which endpoint, request and controls they came about; they "
                           "are kept, and asked for again", record.path, count)  # fmt: skip


class _Run:
    """One call of the judge: questions by key go in, verdicts are recorded, reasons are left for the others."""

    def __init__(self, endpoint: ChatEndpoint, options: LlmJudgeOptions, record: VerdictRecord) -> None:
        self._endpoint, self._options, self._record = endpoint, options, record
        self.reasons: dict[str, str] = {}
        self.asked_twice = self.controls = self.flipped = 0
        self._unanswered_in_a_row = 0

    async def ask_all(self, questions: Mapping[str, Answer]) -> None:
        queue = iter(questions.items())
        async with self._endpoint:
            with tqdm(total=len(questions), desc="judging", unit="answer", delay=2, leave=False) as bar:
                workers = [
                    asyncio.create_task(self._work(queue, bar))
                    for _ in range(min(self._options.max_in_flight, len(questions)))
                ]
                try:
                    await asyncio.gather(*workers)
                finally:
                    for worker in workers:
                        worker.cancel()
                    await asyncio.gather(*workers, return_exceptions=True)

    async def _work(self, queue: Iterator[tuple[str, Answer]], bar: tqdm[Any]) -> None:
        for key, answer in queue:
            try:
                async with asyncio.timeout(self._endpoint.deadline - time.monotonic()):
                    outcome = await self._verdict(answer)
            except TimeoutError:
                outcome = LATE
            if isinstance(outcome, Verdict):
                self._record.put(key, outcome)
            else:
                self.reasons[key] = outcome.reason
            bar.update()

    async def _verdict(self, answer: Answer) -> Verdict | Unanswered:
        if self._unanswered_in_a_row >= self._options.give_up_after:
            return Unanswered("not asked, because the endpoint had stopped answering")
        verdict = await self._ask(answer)
        controls = self._options.controls
        if not isinstance(verdict, Verdict) or not verdict.correct or controls == "none":
            return verdict
        if controls == "suspicious" and not addresses_the_judge(answer):
            return verdict
        self.controls += 1
        control = await self._ask(replace(answer, reference=secrets.token_hex(6)))
        if isinstance(control, Verdict) and control.correct:
            self.flipped += 1
            return Unanswered("the judge obeys the answer: it is right for it beside any reference")
        return verdict if isinstance(control, Verdict) else control

    async def _ask(self, answer: Answer) -> Verdict | Unanswered:
        """One verdict; a reply without one is asked for once more."""
        for attempt in range(2):
            self.asked_twice += attempt
            reply = await self._endpoint.ask(messages(answer))
            if isinstance(reply, Unanswered):
                self._unanswered_in_a_row += 1
                return reply
            self._unanswered_in_a_row = 0
            if (verdict := parse_verdict(reply, answer)) is not None:
                return verdict
        return Unanswered("the reply is no verdict")


def _complete(work: Coroutine[Any, Any, None]) -> None:
    """Run to the end, or until interrupted; in a thread of its own where an event loop is running already, as in a
    notebook."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        asyncio.run(work)
        return
    begun: list[asyncio.Task[Any]] = []

    async def cancellable() -> None:
        begun.extend(asyncio.all_tasks())
        await work

    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(asyncio.run, cancellable())
        try:
            running.result()
        except KeyboardInterrupt:  # it reaches this thread alone, and the other one would go on till its deadline
            for task in begun:
                task.get_loop().call_soon_threadsafe(task.cancel)
            raise
