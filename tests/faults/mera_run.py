"""The tiny run of MERA's recipe that is killed: in a child of its own, its answers judged by a scripted endpoint."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from polysense.metrics.judging.endpoint import load_client
from polysense.metrics.judging.record import verdict_key
from polysense.recipes import mera
from polysense.storage import verify_folder
from polysense.testing import tiny_recipe
from tests.faults.harness import Subject, fork, wait
from tests.faults.kills import undisturbed
from tests.metrics.judging.scripted import NO, YES, Asked, Reply, scripted

JUDGE, IN_FLIGHT, REPLY_SECONDS = "tiny-judge", 4, 0.01
METHODS = {"MERA": "merge=running_average", "EWC": "method={name: ewc, share: 0.5}",
           "PathWeave": "method={name: pathweave}"}  # fmt: skip
STEPS, RUN_TIMEOUT = 3, 300.0
_COUNTERS = ("calls", "retries", "recorded", "controls", "flipped")  # of the judge: they tell how, not what
_RECORDS = ("README.md", "stage.json", "metrics.json")  # with seconds, counters and the command line


@dataclass
class MeraRun:
    """One method's run, and who has asked the judge what.

    Attributes:
        config: of the recipe.
        method: of `METHODS`.
        url: of the judge.
        asked: file with a line per request: the run's name, and the key of the verdict it is about.
        folder: of the run that nobody disturbs.
        recorded: of every run, what was on record whenever it was killed, and how much had been asked by then.
    """

    config: Path
    method: str
    url: str
    asked: Path
    folder: Path
    recorded: dict[str, list[tuple[int, set[str]]]] = field(default_factory=dict)

    @property
    def subject(self) -> Subject:
        return Subject(lambda run: wait(self.start(run), RUN_TIMEOUT), self.final)

    @cached_property
    def reference(self) -> tuple[object, float]:
        """How it ends undisturbed, and its duration."""
        return undisturbed(self.folder, self.subject)

    def start(self, run: Path, prepare: Callable[[], Any] | None = None) -> int:
        """Start the run in a child, or go on with it; `prepare` is called in the child before."""

        def work() -> None:
            os.environ["OPENAI_API_KEY"] = run.name  # by which the endpoint tells runs apart
            if prepare is not None:
                prepare()
            options = f"{{base_url: {self.url}, max_in_flight: {IN_FLIGHT}, controls: none}}"
            judge = f"evaluation.judge={{model: {JUDGE}, options: {options}}}"
            mera.run(str(self.config), run, [METHODS[self.method], judge])

        return fork(work, run.with_suffix(".out"))

    def noted(self, run: Path, killed: bool) -> bool:
        """Remember, if the run was killed, what must not be asked again; `killed` is returned."""
        record = run / "training" / "verdicts.jsonl"
        lines = record.read_text().splitlines() if record.exists() else []
        known = {json.loads(line)["key"] for line in lines if line.endswith("}")}
        if killed:
            self.recorded.setdefault(run.name, []).append((len(self._asked(run)), known))
        return killed

    def final(self, run: Path) -> object:
        """SHA-256 of all that the stages hold, their metrics, and the verdicts that were asked for too often."""
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
    listing = verify_folder(folder)["files"]
    metrics = json.loads((folder / "metrics.json").read_text())
    judged = {name: {key: value for key, value in each.items() if key not in _COUNTERS}
              for name, each in metrics["judgements"].items()}  # fmt: skip
    files = {name: entry["sha256"] for name, entry in listing.items() if name not in _RECORDS}
    return {"name": folder.name, "files": files, "results": metrics["results"], "judgements": judged}


@contextmanager
def mera_runs(folder: Path) -> Iterator[dict[str, MeraRun]]:
    """A run per method, all of one tiny recipe, and the endpoint that judges them in a process of its own."""
    load_client()  # so that no child has to
    folder.mkdir(parents=True, exist_ok=True)
    if wait(fork(lambda: _prepare(folder / "parts"), folder / "parts.out"), RUN_TIMEOUT):
        raise AssertionError((folder / "parts.out").read_text())
    address, asked = folder / "address", folder / "asked"
    server = fork(lambda: _serve(address, asked), folder / "server.out")
    try:
        while not address.exists():
            time.sleep(0.005)
        config, url = folder / "parts" / "tiny.yaml", address.read_text()
        yield {method: MeraRun(config, method, url, asked, folder / f"reference-{method}") for method in METHODS}
    finally:
        os.kill(server, signal.SIGKILL)
        wait(server)


def _prepare(folder: Path) -> None:
    folder.mkdir()
    tiny_recipe(folder, steps=STEPS, loop={"save_every": 2})


def _serve(address: Path, asked: Path) -> None:
    def script(request: Asked) -> Reply:
        key = verdict_key(JUDGE, request.answer)
        with asked.open("a") as file:
            file.write(f"{request.key.removeprefix('Bearer ')} {key}\n")
        right = hashlib.sha256(request.answer.prediction.encode() + key.encode()).digest()[0] % 2
        return Reply(YES if right else NO, delay=REPLY_SECONDS)

    with scripted(script) as endpoint:
        unfinished = address.with_suffix(".tmp")
        unfinished.write_text(endpoint.url)
        unfinished.rename(address)
        signal.pause()
