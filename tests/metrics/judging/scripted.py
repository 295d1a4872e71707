"""A chat endpoint on the loopback interface that answers by a script: verdicts, faults, delays and hostile replies."""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from polysense.metrics.judging import Answer, LlmJudgeOptions, Patience

YES, NO = "{'pred': 'yes', 'score': 5}", "{'pred': 'no', 'score': 0}"
QUICK = Patience(timeout=1.0, attempts=6, first_delay=0.01, longest_delay=0.05)


@dataclass(frozen=True)
class Asked:
    """One request as the endpoint understood it."""

    answer: Answer
    number: int  # how often this question was asked before
    fields: dict[str, Any]
    key: str
    raw_prompt: str


@dataclass(frozen=True)
class Reply:
    """What the endpoint does: `content` in a well-formed completion unless `body` is given."""

    content: str | None = YES
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    delay: float = 0.0
    body: bytes | None = None
    message: dict[str, Any] = field(default_factory=dict)
    cut: bool = False  # close the connection instead of answering
    trickle: bool = False  # one byte now and then, without an end


Script = Callable[[Asked], Reply]


@dataclass
class Endpoint:
    """The server's state, which tests read."""

    script: Script
    asked: list[Asked] = field(default_factory=list)
    url: str = ""
    most_in_flight: int = 0
    in_flight: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def options(self, **changes: Any) -> LlmJudgeOptions:
        return LlmJudgeOptions(**{"base_url": self.url, "patience": QUICK, "deadline": 60.0, **changes})


_PROMPT = re.compile(
    r"Question: (\".*\")\nCorrect Answer: (\".*\")\nPredicted Answer:\n<<<(\w{16})>>>\n(\".*\")\n<<<\3>>>\n"
)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    endpoint: Endpoint

    def log_message(self, format: str, *args: Any) -> None:
        """Keep the test's output clean."""

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        endpoint = self.endpoint
        with endpoint.lock:
            asked = self._understood(json.loads(body))
            endpoint.asked.append(asked)
            endpoint.in_flight += 1
            endpoint.most_in_flight = max(endpoint.most_in_flight, endpoint.in_flight)
        try:
            self._carry_out(endpoint.script(asked))
        except OSError:
            self.close_connection = True
        finally:
            with endpoint.lock:
                endpoint.in_flight -= 1

    def _understood(self, fields: dict[str, Any]) -> Asked:
        prompt = fields["messages"][1]["content"]
        found = _PROMPT.search(prompt)
        assert found is not None, prompt
        answer = Answer(json.loads(found[1]), json.loads(found[2]), json.loads(found[4]))
        number = sum(answer == earlier.answer for earlier in self.endpoint.asked)
        return Asked(answer, number, fields, self.headers["Authorization"], prompt)

    def _carry_out(self, reply: Reply) -> None:
        time.sleep(reply.delay)
        if reply.cut:
            self.close_connection = True
            self.connection.close()
            return
        message = {"role": "assistant", "content": reply.content, **reply.message}
        completion = {
            "object": "chat.completion",
            "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
        }
        body = json.dumps(completion).encode() if reply.body is None else reply.body
        self.send_response(reply.status)
        for name, value in {
            "Content-Type": "application/json",
            "Content-Length": str(len(body)),
            **reply.headers,
        }.items():
            self.send_header(name, value)
        self.end_headers()
        if reply.trickle:
            for byte in body:
                self.wfile.write(bytes([byte]))
                self.wfile.flush()
                time.sleep(0.05)
        else:
            self.wfile.write(body)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256

    def handle_error(self, *_: Any) -> None:
        """A client that went away is part of the tests."""


@contextmanager
def scripted(script: Script) -> Iterator[Endpoint]:
    """A running endpoint."""
    endpoint = Endpoint(script)
    server = _Server(("127.0.0.1", 0), type("Handler", (_Handler,), {"endpoint": endpoint}))
    endpoint.url = f"http://127.0.0.1:{server.server_port}/v1"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield endpoint
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def compare(asked: Asked) -> Reply:
    """An honest judge: equal or not."""
    return Reply(YES if asked.answer.prediction == asked.answer.reference else NO)


def questions(count: int, right: int) -> list[Answer]:
    """Distinct answers, the first `right` of them right."""
    return [Answer(f"What is thing {i}?", f"thing {i}", f"thing {i}" if i < right else "a cube") for i in range(count)]
