"""A whole small run with a judge that often fails: keys of the environment stay there, nothing failed is a score."""

from __future__ import annotations

import json
import logging
import random
from pathlib import Path

import pytest

from polysense.cli import main
from polysense.testing import tiny_recipe
from tests.metrics.judging.scripted import QUICK, Asked, Endpoint, Reply, compare, scripted

KEYS = {"OPENAI_API_KEY": "sk-canary-5f1e0d", "HF_TOKEN": "hf_canary7c2b9a", "HUGGING_FACE_HUB_TOKEN": "hf_canary11d8"}


def failing(asked: Asked) -> Reply:
    """Three in ten requests fail, some with the key in the server's own words."""
    if random.Random(f"{asked.answer} {asked.number}").random() < 0.3:
        return Reply(status=500, body=json.dumps({"error": {"message": f"bad header {asked.key}"}}).encode())
    return compare(asked)


def refusing(asked: Asked) -> Reply:
    return Reply(status=401, body=json.dumps({"error": {"message": f"wrong key {asked.key}"}}).encode())


def run(folder: Path, endpoint: Endpoint) -> int:
    """The recipe by the command line, as loud as it gets."""
    config = tiny_recipe(folder)
    patience = f"{{timeout: {QUICK.timeout}, attempts: 3, first_delay: 0.01, longest_delay: 0.05}}"
    judge = f"evaluation.judge={{model: tiny-judge, options: {{base_url: {endpoint.url}, patience: {patience}}}}}"
    return main(["-v", "train", "mera", "--config", str(config), "--output", str(folder / "run"), judge])


def told(folder: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]) -> bytes:
    """Everything that was written, logged or printed."""
    files = [path.read_bytes() for path in folder.rglob("*") if path.is_file()]
    return b"\n".join([*files, caplog.text.encode(), "".join(capfd.readouterr()).encode()])


@pytest.fixture(autouse=True)
def planted(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)
    caplog.set_level(logging.DEBUG)


def test_no_key_is_found_in_anything_that_a_run_leaves(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    with scripted(failing) as endpoint:
        assert run(tmp_path, endpoint) == 0
        assert {asked.key for asked in endpoint.asked} == {f"Bearer {KEYS['OPENAI_API_KEY']}"}
    everything = told(tmp_path, caplog, capfd)
    assert b"tiny-judge" in everything and b"stage-2-depth" in everything
    for name, value in KEYS.items():
        assert value.encode() not in everything, name
    record = (tmp_path / "run" / "training" / "verdicts.jsonl").read_text().splitlines()
    keys = [json.loads(line)["key"] for line in record]
    assert len(keys) == len(set(keys))  # one record for all stages: what one has had judged, no other asks again
    first, second = sorted((tmp_path / "run" / "stages").iterdir())
    for stage in (first, second):
        metrics = json.loads((stage / "metrics.json").read_text())
        for name, judged in metrics["judgements"].items():
            assert judged["retries"] > 0 and judged["complete"] == (judged["coverage"] >= 0.99)
            figures = [each for each in metrics["results"] if each["dataset"] == name and "accuracy" in each["metric"]]
            assert len(figures) == judged["complete"]  # an incomplete judgement gives no figure, least of all a zero
            assert sum(judged["unjudged"].values()) == round((1 - judged["coverage"]) * judged["answers"])
    settings = list(second.glob("adapters/*/adapter_config.json"))
    assert len(settings) == 2 and not any(str(tmp_path) in path.read_text() for path in settings)


def test_a_key_that_is_refused_is_not_repeated_to_the_user(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    with scripted(refusing) as endpoint:
        assert run(tmp_path, endpoint) != 0
    everything = told(tmp_path, caplog, capfd)
    assert b"refuses every request" in everything
    for name, value in KEYS.items():
        assert value.encode() not in everything, name
