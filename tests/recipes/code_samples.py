"""Clips as manifests, and an encoder that reads their codes off their labels."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from polysense.data import SampleDataset, keyed_rng
from polysense.recipes.codes import CodeSequences

EVENTS = ("background", "bounce", "knock", "ring")
SECONDS = 4
DIM = 6


def clips(count: int, seed: int = 0) -> Iterator[dict[str, Any]]:
    """Clips with one event of two or three seconds, seen and heard alike."""
    for number in range(count):
        rng = keyed_rng("clips", seed, number)
        event, start, length = int(rng.integers(1, len(EVENTS))), int(rng.integers(0, 2)), int(rng.integers(2, 4))
        seconds = [EVENTS[event] if start <= t < start + length else EVENTS[0] for t in range(SECONDS)]
        yield {
            "id": f"clip-{seed}-{number}",
            "media": {"video": f"{number}.mp4", "audio": f"{number}.flac"},
            "labels": {"video": f"{EVENTS[event]} seen", "audio": f"{EVENTS[event]} heard"},
            "captions": {"video": [" ".join(seconds), "something"], "audio": [" ".join(seconds)]},
            "semantics": {"video": " ".join(seconds), "audio": " ".join(seconds)},
            "seconds": {"video": seconds, "audio": seconds},
        }


def write_clips(folder: Path, name: str, rows: Sequence[dict[str, Any]]) -> dict[str, str]:
    """A manifest; returned as a data set in a config."""
    (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return {"manifest": f"{name}.jsonl"}


class LabelEncoder:
    """Code k is the k-th event, its vector a unit vector with a little noise of the sense's own.

    Args:
        spoiled: a sense whose codes say nothing.
    """

    def __init__(self, spoiled: str | None = None) -> None:
        self.spoiled, self.calls = spoiled, list[tuple[str, int]]()

    def __call__(self, sense: str, dataset: SampleDataset) -> CodeSequences:
        self.calls.append((sense, len(dataset)))
        indices = torch.tensor([self._codes(sense, dataset, index) for index in range(len(dataset))])
        noise = keyed_rng(sense).normal(scale=0.01, size=(*indices.shape, DIM)).astype(np.float32)
        vectors = torch.nn.functional.one_hot(indices, DIM) + torch.from_numpy(noise)
        return CodeSequences(vectors, indices)

    def _codes(self, sense: str, dataset: SampleDataset, index: int) -> list[int]:
        sample = dataset[index]
        if sense == self.spoiled:
            return [0] * SECONDS
        if sense == "text":
            words = str(sample.ref("text").open()).split()
        else:
            seconds = sample.extra["seconds"][sense]
            words = [each if isinstance(each, str) else (each or ["background"])[0] for each in seconds]
        return [EVENTS.index(word) if word in EVENTS else 0 for word in (words * SECONDS)[:SECONDS]]
