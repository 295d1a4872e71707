"""Reads every file of the corpus in a child with bounded memory and time, and counts what became of it."""

from __future__ import annotations

import json
import os
import resource
import signal
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from polysense.errors import PolysenseError
from polysense.modality import get_modality
from polysense.processing import ModalityProcessor, processor_for
from tests.faults.harness import FaultReport
from tests.faults.media_corpus import BadMedia, write_corpus

SECONDS = 5  # after which a child counts as hanging
SPARE_BYTES = 1 << 30  # address space that a child may add to what the parent has
MODALITIES = ("image", "depth", "audio", "speech", "video", "point_cloud")


@dataclass(frozen=True)
class Outcome:
    """What one source led to.

    Attributes:
        verdict: "error" (names file, reason and fix), "tensor" (valid features), or what went wrong: "leak" (another
            exception), "vague" (an error that names too little), "invalid" (features not finite), "crash", "hang".
        detail: the message, or the signal.
        seconds: wall time of the child.
        grown: bytes by which the child's resident memory exceeded the parent's.
    """

    verdict: str
    detail: str
    seconds: float
    grown: int

    def is_right_for(self, case: BadMedia) -> bool:
        return self.verdict == "error" or (self.verdict == "tensor" and case.may_pass)


def media_processors() -> dict[str, ModalityProcessor]:
    """Small processors of every sense that has files."""
    return {name: processor_for(get_modality(name), 32) for name in MODALITIES}


def read_in_child(case: BadMedia, processors: Mapping[str, ModalityProcessor]) -> Outcome:
    """Fork, read, and report; the parent has everything imported, so that a child costs milliseconds."""
    begun, (reading, writing) = time.monotonic(), os.pipe()
    child = os.fork()
    if child == 0:
        _read_and_exit(case, processors[case.modality], writing)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        report = pipe.read()
    _, status, _ = os.wait4(child, 0)
    seconds = time.monotonic() - begun
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        return Outcome("hang" if number == signal.SIGALRM else "crash", signal.Signals(number).name, seconds, 0)
    if not report:
        return Outcome("crash", f"exit code {os.WEXITSTATUS(status)}", seconds, 0)
    return Outcome(**json.loads(report), seconds=seconds)


def _read_and_exit(case: BadMedia, processor: ModalityProcessor, writing: int) -> None:
    """Never returns: whatever happens here must not run on in a copy of the parent."""
    try:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 2)  # decoders written in C complain to standard error
        resident = _memory("VmRSS")
        limit = _memory("VmSize") + SPARE_BYTES
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(SECONDS)
        verdict, detail = _verdict(case, processor)
        grown = max(0, _memory("VmHWM") - resident)
        os.write(writing, json.dumps({"verdict": verdict, "detail": detail, "grown": grown}).encode())
        os._exit(0)
    finally:
        os._exit(70)


def _verdict(case: BadMedia, processor: ModalityProcessor) -> tuple[str, str]:
    try:
        values = next(iter(processor([case.source]).values()))
    except PolysenseError as error:
        named = error.where is not None and str(case.source) == error.where
        return "error" if named and error.what and error.fix else "vague", str(error)[:300]
    except Exception as error:
        return "leak", f"{type(error).__name__}: {error}"[:300]
    return "tensor" if bool(torch.isfinite(values).all()) else "invalid", str(tuple(values.shape))


def _memory(field: str) -> int:
    """Bytes of a field of /proc/self/status."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field + ":"))


def wrong_outcomes(
    cases: Sequence[BadMedia], processors: Mapping[str, ModalityProcessor]
) -> list[tuple[BadMedia, Outcome]]:
    """Those cases whose outcome is not what it should be."""
    outcomes = [(case, read_in_child(case, processors)) for case in cases]
    return [(case, outcome) for case, outcome in outcomes if not outcome.is_right_for(case)]


def bad_media(folder: Path, count: int, seed: int) -> FaultReport:
    """The fault class of unusable media: `count` sources of the corpus, drawn without replacement."""
    report = FaultReport("unusable media")
    cases, processors = write_corpus(folder, seed), media_processors()
    for place in np.random.default_rng(seed).permutation(len(cases))[:count]:
        case = cases[place]
        outcome = read_in_child(case, processors)
        report.injected += 1
        report.detected += outcome.is_right_for(case)
        report.lost += outcome.verdict in ("crash", "hang", "leak", "vague")
        report.silent += not outcome.is_right_for(case) and outcome.verdict in ("tensor", "invalid")
        report.worst_seconds = max(report.worst_seconds, outcome.seconds)
    return report
