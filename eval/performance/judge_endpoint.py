"""A chat endpoint on loopback with the delay of a model, in a process of its own; standard library only.

    python -m eval.performance.judge_endpoint SECONDS FAULTS

Prints its port and serves until it is ended. It says yes where prediction and reference are equal. A share FAULTS of
the requests fails, drawn by the text and how often it was asked: 429 with Retry-After, 500, no answer, half a verdict.
"""

from __future__ import annotations

import asyncio
import json
import random
import re
import sys
from collections import Counter

_TEXTS = re.compile(r"Correct Answer: (\".*\")\nPredicted Answer:\n<<<\w+>>>\n(\".*\")\n")
_NO_ANSWER = 3.0  # seconds, longer than the benchmark waits


class Endpoint:
    def __init__(self, seconds: float, faults: float) -> None:
        self._seconds, self._faults = seconds, faults
        self._asked: Counter[str] = Counter()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).lower()
                length = re.search(rb"content-length: (\d+)", head)
                body = await reader.readexactly(int(length[1]) if length else 0)
                status, headers, reply = await self._answer(json.loads(body)["messages"][1]["content"])
                lines = (
                    f"HTTP/1.1 {status} -\r\nContent-Type: application/json\r\n{headers}Content-Length: {len(reply)}"
                )
                writer.write(f"{lines}\r\n\r\n".encode() + reply)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    async def _answer(self, prompt: str) -> tuple[int, str, bytes]:
        await asyncio.sleep(self._seconds)
        texts = _TEXTS.search(prompt)
        question = prompt.split("\n")[2]
        draw = random.Random(f"{question} {self._asked[question]}")
        self._asked[question] += 1
        verdict = "{'pred': 'yes', 'score': 5}" if texts and texts[1] == texts[2] else "{'pred': 'no', 'score': 0}"
        fault = draw.choice(("429", "500", "none", "half")) if draw.random() < self._faults else ""
        if fault in ("429", "500"):
            return int(fault), "Retry-After: 0.05\r\n" if fault == "429" else "", b"{}"
        if fault == "none":
            await asyncio.sleep(_NO_ANSWER)
        return 200, "", _completion(verdict[:18] if fault == "half" else verdict)


def _completion(content: str) -> bytes:
    message = {"role": "assistant", "content": content}
    return json.dumps({"choices": [{"index": 0, "finish_reason": "stop", "message": message}]}).encode()


async def main(seconds: float, faults: float) -> None:
    server = await asyncio.start_server(Endpoint(seconds, faults).serve, "127.0.0.1", 0, backlog=256)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(float(sys.argv[1]), float(sys.argv[2])))
