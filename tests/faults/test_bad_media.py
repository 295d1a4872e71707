from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor

from polysense.errors import MediaError
from polysense.modality import get_modality
from polysense.processing import ModalityProcessor, processor_for
from polysense.processing.base import Facts
from tests.faults import bad_media
from tests.faults.bad_media import media_processors, read_in_child, wrong_outcomes
from tests.faults.media_corpus import BadMedia, valid_files, write_corpus

SEED = 0


@dataclass(frozen=True, kw_only=True)
class Scripted(ModalityProcessor):
    """Does what the test says instead of reading."""

    kind: ClassVar[str] = "grid"
    act: Callable[[], Any]

    def load(self, source: Any, facts: Facts | None = None) -> Any:
        return self.act()

    def features(self, raw: Any, rng: np.random.Generator | None = None) -> Tensor:
        return torch.tensor([float(raw)])


def _raise(error: Exception) -> None:
    raise error


def test_a_tenth_of_the_corpus_is_refused_by_name_or_read(tmp_path: Path) -> None:
    cases = write_corpus(tmp_path, SEED)
    drawn = np.random.default_rng(SEED).permutation(len(cases))[: len(cases) // 10]
    assert wrong_outcomes([cases[i] for i in drawn], media_processors()) == []


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2])
def test_the_whole_corpus_is_refused_by_name_or_read(tmp_path: Path, seed: int) -> None:
    cases = write_corpus(tmp_path, seed)
    assert wrong_outcomes(cases, media_processors()) == []


def test_the_corpus_is_large_and_covers_every_sense_and_fault(tmp_path: Path) -> None:
    cases = write_corpus(tmp_path, SEED)
    assert len(cases) >= 300
    assert {case.modality for case in cases} == {"image", "depth", "audio", "speech", "video", "point_cloud"}
    assert sum(case.fault == "bomb" for case in cases) >= 20
    assert len({case.fault for case in cases}) >= 15
    assert sum(case.may_pass for case in cases) < len(cases) / 2


def test_thin_pictures_need_no_more_memory_than_their_target(tmp_path: Path) -> None:
    processors = {name: processor_for(get_modality(name), 224) for name in ("image", "depth")}
    cases = [case for case in write_corpus(tmp_path, SEED) if case.fault == "thin"]
    outcomes = [read_in_child(case, processors) for case in cases]
    assert len(outcomes) == 6 and {outcome.verdict for outcome in outcomes} == {"tensor"}, outcomes
    assert max(outcome.grown for outcome in outcomes) < 64 << 20


def test_the_files_that_are_damaged_were_readable_before(tmp_path: Path) -> None:
    cases = [BadMedia(modality, tmp_path / name, "none") for name, (modality, _) in valid_files(tmp_path).items()]
    outcomes = [read_in_child(case, media_processors()) for case in cases]
    assert {outcome.verdict for outcome in outcomes} == {"tensor"}, outcomes


@pytest.mark.parametrize(
    ("act", "verdict"),
    [
        (lambda: 1.0, "tensor"),
        (lambda: float("nan"), "invalid"),
        (lambda: _raise(ValueError("bare")), "leak"),
        (lambda: _raise(MediaError("is odd", where="another.png", fix="Do.")), "vague"),
        (lambda: _raise(MediaError("is odd", where="a.png")), "vague"),
        (lambda: _raise(MediaError("is odd", where="a.png", fix="Do.")), "error"),
        (lambda: np.ones(1 << 29), "leak"),  # 4 GiB: more than the child may have
        (lambda: os.kill(os.getpid(), signal.SIGKILL), "crash"),
        (lambda: os._exit(3), "crash"),
        (lambda: time.sleep(30), "hang"),
    ],
)
def test_the_harness_tells_what_went_wrong(
    act: Callable[[], Any], verdict: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bad_media, "SECONDS", 1)
    outcome = read_in_child(BadMedia("toy", "a.png", "none"), {"toy": Scripted(modality="toy", act=act)})
    assert outcome.verdict == verdict, outcome
