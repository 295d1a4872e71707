"""The tiny run of MERA's recipe that is killed: in a child of its own, its answers judged by a scripted endpoint."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from polysense.metrics.judging import LlmJudge, LlmJudgeOptions
from polysense.metrics.judging.endpoint import load_client
from polysense.metrics.judging.record import verdict_key
from polysense.recipes import mera
from polysense.testing import tiny_recipe
from tests.faults.harness import fork, wait
from tests.faults.recipe_run import RecipeRun, metrics_of, prepared, stage_content
from tests.metrics.judging.scripted import NO, YES, Asked, Reply, scripted

JUDGE, IN_FLIGHT, REPLY_SECONDS = "tiny-judge", 4, 0.01
METHODS = {"MERA": "merge=running_average", "EWC": "method={name: ewc, share: 0.5}",
           "PathWeave": "method={name: pathweave}"}  # fmt: skip
STEPS = 3
_COUNTERS = ("calls", "retries", "recorded", "controls", "flipped")  # of the judge: they tell how, not what


@dataclass
class MeraRun(RecipeRun):
    """One of `METHODS`, and who has asked the judge what.

    Attributes:
        url: of the judge.
        asked: file with a line per request: the run's name, and the key of the verdict it is about.
        recorded: of every run, what was on record whenever it was killed, and how much had been asked by then.
    """

    url: str
    asked: Path
    recorded: dict[str, list[tuple[int, set[str]]]] = field(default_factory=dict)

    def train(self, run: Path) -> None:
        os.environ["OPENAI_API_KEY"] = run.name  # by which the endpoint tells runs apart
        options = f"{{base_url: {self.url}, max_in_flight: {IN_FLIGHT}, controls: none}}"
        judge = f"evaluation.judge={{model: {JUDGE}, options: {options}}}"
        mera.run(str(self.config), run, [METHODS[self.method], judge])

    def noted(self, run: Path, killed: bool) -> bool:
        """Remember, if the run was killed, what must not be asked again; `killed` is returned."""
        record = run / "training" / "verdicts.jsonl"
        lines = record.read_text().splitlines() if record.exists() else []
        known = {json.loads(line)["key"] for line in lines if line.endswith("}")}
        if killed:
            self.recorded.setdefault(run.name, []).append((len(self._asked(run)), known))
        return killed

    def final(self, run: Path) -> object:
        """SHA-256 of all that the stages hold, their metrics, and the verdicts that were asked for too often: nothing
        that was on record may be asked again, and no more repeated than was in flight."""
        stages = sorted((run / "stages").iterdir())
        return [_stage(folder) for folder in stages], self._asked_again(run)

    def _asked_again(self, run: Path) -> list[str]:
        """Verdicts that were on record at a kill and asked for after it, and repeats beyond the requests in flight."""
        asked, kills = self._asked(run), self.recorded.get(run.name, [])
        again = [key for count, known in kills for key in asked[count:] if key in known]
        repeats = len(asked) - len(set(asked))
        return again + ["too many repeats"] * (repeats > IN_FLIGHT * len(kills))

    def _asked(self, run: Path) -> list[str]:
        lines = self.asked.read_text().splitlines() if self.asked.exists() else []
        return [key for name, key in map(str.split, lines) if name == run.name]


def _stage(folder: Path) -> Mapping[str, Any]:
    judged = {name: {key: value for key, value in each.items() if key not in _COUNTERS}
              for name, each in metrics_of(folder)["judgements"].items()}  # fmt: skip
    return {**stage_content(folder), "judgements": judged}


@contextmanager
def mera_runs(folder: Path) -> Iterator[dict[str, MeraRun]]:
    """A run per method, all of one tiny recipe, and the endpoint that judges them in a process of its own."""
    load_client()  # so that no child has to
    folder.mkdir(parents=True, exist_ok=True)
    prepared(folder / "parts", lambda: _prepare(folder / "parts"))
    address, asked = folder / "address", folder / "asked"
    server = fork(lambda: _serve(address, asked), folder / "server.out")
    try:
        while not address.exists():
            time.sleep(0.005)
        config, url = folder / "parts" / "tiny.yaml", address.read_text()
        yield {method: MeraRun(config, method, folder / f"reference-{method}", url, asked) for method in METHODS}
    finally:
        os.kill(server, signal.SIGKILL)
        wait(server)


def _prepare(folder: Path) -> None:
    folder.mkdir()
    tiny_recipe(folder, steps=STEPS, loop={"save_every": 2})


def _serve(address: Path, asked: Path) -> None:
    def script(request: Asked) -> Reply:
        judge = LlmJudge(JUDGE, LlmJudgeOptions(base_url=endpoint.url, controls="none"))
        key = verdict_key(judge.settings, request.answer)
        with asked.open("a") as file:
            file.write(f"{request.key.removeprefix('Bearer ')} {key}\n")
        right = hashlib.sha256(request.answer.prediction.encode() + key.encode()).digest()[0] % 2
        return Reply(YES if right else NO, delay=REPLY_SECONDS)

    with scripted(script) as endpoint:
        unfinished = address.with_suffix(".tmp")
        unfinished.write_text(endpoint.url)
        unfinished.rename(address)
        signal.pause()
