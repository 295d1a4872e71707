from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from polysense.world.attributes import EVENTS, MATERIALS, Happening, Look
from polysense.world.config import Difficulty
from polysense.world.events import Event
from polysense.world.sound import LENGTH, excitation, ring, soundtrack
from polysense.world.writers import SAMPLING_RATE

EASY = replace(Difficulty.named("easy"), size_jitter=0.0)


def _event(name: str, material: str = "wood", size: str = "medium", start: int = 2, end: int = 7) -> Event:
    return Event(Happening(name, Look("cube", "red", size, material)), start, end, True, True, 1.0, 0.7)


def _ring(material: str, size: str = "medium") -> np.ndarray:
    return ring(Look("cube", "red", size, material), np.random.default_rng(0), EASY)


def _loudest(wave: np.ndarray) -> float:
    return float(np.abs(np.fft.rfft(wave)).argmax()) * SAMPLING_RATE / len(wave)


def test_a_larger_thing_sounds_lower() -> None:
    pitches = [_loudest(_ring("wood", size)) for size in ("tiny", "small", "medium", "large")]
    assert pitches == sorted(pitches, reverse=True)
    assert pitches[0] / pitches[2] == pytest.approx(2.0, rel=0.05)


def test_material_decides_how_long_a_thing_rings() -> None:
    def length(material: str) -> int:
        energy = np.cumsum(_ring(material) ** 2)
        return int(np.searchsorted(energy, 0.9 * energy[-1]))

    assert length("metal") > 2 * length("ceramic") > 2 * length("wood")
    for material in MATERIALS:
        assert float((_ring(material) ** 2).sum()) == pytest.approx(1, rel=1e-4)


def test_the_strikes_of_a_bounce_come_faster_and_faster() -> None:
    wave = excitation(_event("bounce"), np.random.default_rng(0))
    strikes = np.flatnonzero((wave[1:-1] > wave[:-2]) & (wave[1:-1] >= wave[2:]) & (wave[1:-1] > 0.2))
    gaps = np.diff(strikes)
    assert len(gaps) > 4
    assert (np.diff(gaps) < 0).all()


def test_no_two_kinds_of_event_have_one_rhythm() -> None:
    envelopes = []
    for name in EVENTS:
        wave = np.abs(excitation(_event(name), np.random.default_rng(0)))
        envelope = wave.reshape(-1, 400).mean(1)
        envelopes.append(envelope / np.linalg.norm(envelope))
    likeness = np.array(envelopes) @ np.array(envelopes).T - np.eye(len(EVENTS))
    assert likeness.max() < 0.97


def test_a_soundtrack_is_loud_where_its_event_is_and_fits_sixteen_bits() -> None:
    wave = soundtrack([_event("shake", "metal")], np.random.default_rng(0), EASY)
    assert wave.shape == (LENGTH,)
    assert np.abs(wave).max() < 1
    seconds = (wave.reshape(10, -1) ** 2).mean(1)
    assert seconds[2:7].min() > 20 * seconds[[0, 1, 9]].max()


def test_what_is_only_seen_is_not_heard() -> None:
    silent = replace(_event("shake"), audible=False)
    seconds = (soundtrack([silent], np.random.default_rng(0), EASY).reshape(10, -1) ** 2).mean(1)
    assert seconds.max() < 4 * seconds.min()
