"""Modal synthesis: a struck or rubbed thing rings in partials given by its material and size.

The sound of an event is its *excitation* (what strikes or rubs, when, how hard: the rhythm) convolved with the impulse
response of the thing (a few damped partials). Both are linear, so one product of spectra per event is enough, and the
room's reverberation is one more factor.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy import fft

from polysense.world.attributes import SIZES, Look
from polysense.world.config import Difficulty
from polysense.world.events import SECONDS, Event, bounce_times
from polysense.world.writers import SAMPLING_RATE

LENGTH = SECONDS * SAMPLING_RATE
_PADDED = fft.next_fast_len(LENGTH + SAMPLING_RATE, real=True)
_RING = int(1.0 * SAMPLING_RATE)


@dataclass(frozen=True)
class Timbre:
    """Partials of a material: ratios to the fundamental (hertz, of a medium thing), decay time in seconds, brightness.

    A partial k has amplitude brightness**k and rings for decay / ratio**damping.
    """

    fundamental: float
    ratios: tuple[float, ...]
    decay: float
    brightness: float
    damping: float


TIMBRE = {
    "metal": Timbre(420.0, (1.0, 2.76, 5.40, 8.93, 11.34), 0.55, 0.85, 0.5),
    "glass": Timbre(900.0, (1.0, 2.32, 4.25, 6.63), 0.28, 0.8, 0.7),
    "wood": Timbre(330.0, (1.0, 2.57, 4.95, 7.8), 0.055, 0.6, 0.8),
    "rubber": Timbre(160.0, (1.0, 1.58, 2.24), 0.05, 0.45, 0.5),
    "ceramic": Timbre(620.0, (1.0, 1.83, 3.05, 4.41, 5.9), 0.11, 0.75, 0.6),
}
PITCH = dict(zip(SIZES, (2.0, 1.4, 1.0, 0.68), strict=True))


def ring(look: Look, rng: np.random.Generator, level: Difficulty) -> Float[np.ndarray, " samples"]:
    """Impulse response (samples,) of a thing, with unit energy: material gives timbre, size gives pitch."""
    timbre = TIMBRE[look.material]
    fundamental = timbre.fundamental * PITCH[look.size] * (1 + rng.uniform(-level.size_jitter, level.size_jitter))
    ratios = np.array(timbre.ratios) * (1 + 0.01 * rng.standard_normal(len(timbre.ratios)))
    weights = timbre.brightness ** np.arange(len(ratios)) * rng.uniform(0.5, 1.0, size=len(ratios))
    response = np.zeros(_RING, dtype=np.float32)
    for ratio, weight in zip(ratios, weights, strict=True):
        frequency, decay = fundamental * ratio, timbre.decay / ratio**timbre.damping
        if frequency > 0.47 * SAMPLING_RATE:
            continue
        samples = min(_RING, int(7 * decay * SAMPLING_RATE))
        t = np.arange(samples, dtype=np.float32) / np.float32(SAMPLING_RATE)
        response[:samples] += weight * np.exp(-t / np.float32(decay)) * np.sin(np.float32(2 * np.pi * frequency) * t)
    return response / np.float32(np.sqrt((response * response).sum()))


class _Score:
    """Excitation of one event, written as strikes and as shaped noise; times in seconds since the event's start."""

    def __init__(self, event: Event, rng: np.random.Generator) -> None:
        self.total, self.tempo, self.phase, self.rng = float(event.end - event.start), event.tempo, event.phase, rng
        self.wave = np.zeros(int(self.total) * SAMPLING_RATE, dtype=np.float32)
        self.t = np.arange(len(self.wave), dtype=np.float32) / np.float32(SAMPLING_RATE)

    def strike(self, when: float, force: float = 1.0) -> None:
        """A contact of about a millisecond and a half."""
        first = int(when * SAMPLING_RATE)
        if 0 <= first < len(self.wave) - 24:
            self.wave[first : first + 24] += np.float32(force) * np.hanning(24).astype(np.float32)

    def rub(self, envelope: Float[np.ndarray, " samples"]) -> None:
        """Friction: noise whose loudness follows `envelope` (samples,)."""
        self.wave += np.float32(0.06) * envelope * self.rng.standard_normal(len(self.wave), dtype=np.float32)


def _fall(s: _Score) -> None:
    first = 1.1 / s.tempo
    for k, when in enumerate(bounce_times(s.total, first=first, ratio=0.22)):
        s.strike(when, 2.2 * 0.45**k)


def _bounce(s: _Score) -> None:
    for k, when in enumerate(bounce_times(s.total, first=0.55 / s.tempo, ratio=0.88)):
        s.strike(when, 1.3 * 0.93**k)


def _slide(s: _Score) -> None:
    s.rub(1.0 + 0.15 * np.sin(2 * np.pi * 0.7 * s.t + np.float32(s.phase)))


def _roll(s: _Score) -> None:
    turn = np.sin(2 * np.pi * 2.6 * s.tempo * s.t + np.float32(s.phase))
    s.rub(0.35 + 0.9 * np.maximum(turn, 0) ** 2)


def _spin(s: _Score) -> None:
    pace = 9.0 * s.tempo * (s.t - s.t * s.t / (2.6 * s.total))  # slows down
    s.rub(0.9 * np.maximum(np.sin(2 * np.pi * pace), 0) ** 3 * (1.1 - s.t / s.total))


def _shake(s: _Score) -> None:
    for when in np.arange(0.05, s.total, 1 / (6.7 * s.tempo)):
        s.strike(when + s.rng.normal(0, 0.012), s.rng.uniform(0.25, 0.9))


def _swing(s: _Score) -> None:
    s.rub(0.8 * np.abs(np.sin(np.pi * 0.5 * s.tempo * s.t + np.float32(s.phase / 2))) ** 4)


def _knock(s: _Score) -> None:
    for when in np.arange(0.2, s.total, 1 / (1.0 * s.tempo)):
        for k in range(3):
            s.strike(when + 0.13 * k, 1.0)


def _rise(s: _Score) -> None:
    s.rub(1.3 * (s.t / s.total) ** 2)
    s.strike(s.total - 0.08, 1.2)


def _circle(s: _Score) -> None:
    turn = np.sin(2 * np.pi * 0.7 * s.tempo * s.t + np.float32(s.phase))
    s.rub(0.5 + 0.45 * turn)
    for when in np.arange(0.1, s.total, 1 / (3.5 * s.tempo)):
        s.strike(when, 0.35)


def _topple(s: _Score) -> None:
    crash = 0.55 * s.total
    s.rub(0.7 * (s.t / crash) ** 3 * (s.t < crash))
    for k, gap in enumerate((0.0, 0.09, 0.16, 0.21, 0.25)):
        s.strike(crash + gap, 1.8 * 0.6**k)


def _hop(s: _Score) -> None:
    for when in np.arange(1 / (0.8 * s.tempo), s.total, 1 / (0.8 * s.tempo)):
        s.strike(when, 1.2)
        s.strike(when + 0.16, 0.5)


_RHYTHMS: dict[str, Callable[[_Score], None]] = {
    "fall": _fall, "bounce": _bounce, "slide": _slide, "roll": _roll, "spin": _spin, "shake": _shake,
    "swing": _swing, "knock": _knock, "rise": _rise, "circle": _circle, "topple": _topple, "hop": _hop,
}  # fmt: skip


def excitation(event: Event, rng: np.random.Generator) -> Float[np.ndarray, " samples"]:
    """What acts on the thing during an event (samples of the event's own span)."""
    score = _Score(event, rng)
    _RHYTHMS[event.name](score)
    return score.wave


def soundtrack(events: Sequence[Event], rng: np.random.Generator, level: Difficulty) -> Float[np.ndarray, " samples"]:
    """Ten seconds at 16 kHz (160000,): audible events, the room's reverberation, background noise; peak below one."""
    dry = np.zeros(LENGTH, dtype=np.float32)
    for event in events:
        if event.audible:
            start, end = event.start * SAMPLING_RATE, event.end * SAMPLING_RATE
            length = fft.next_fast_len(end - start + _RING, real=True)
            spectrum = fft.rfft(excitation(event, rng), length) * fft.rfft(ring(event.look, rng, level), length)
            wave = fft.irfft(spectrum, length)[: end - start]
            wave[-160:] *= np.linspace(1, 0, 160, dtype=np.float32)
            loudness = np.float32(np.sqrt(np.mean(wave * wave)) + 1e-9)
            dry[start:end] += wave / loudness * np.float32(rng.uniform(0.7, 1.3))
    wet = _in_room(dry, rng, level)
    ratio = 10 ** (-rng.uniform(*level.snr) / 20)
    mixed = wet + _background(rng) * np.float32(ratio)
    return np.asarray(mixed * np.float32(rng.uniform(0.5, 0.9)) / np.abs(mixed).max(), dtype=np.float32)


def _in_room(
    dry: Float[np.ndarray, " samples"], rng: np.random.Generator, level: Difficulty
) -> Float[np.ndarray, " samples"]:
    """Direct sound with exponentially decaying echoes; they end with the room's reverberation time."""
    seconds = level.reverberation * rng.uniform(0.3, 1.0)
    t = np.arange(int(max(seconds, 0.01) * SAMPLING_RATE), dtype=np.float32) / np.float32(SAMPLING_RATE)
    tail = np.exp(np.float32(-6.9 / max(seconds, 0.01)) * t) * rng.standard_normal(len(t), dtype=np.float32)
    tail *= np.float32(rng.uniform(0.15, 0.6) / np.sqrt((tail * tail).sum() + 1e-9))
    tail[0] = 1.0
    return np.asarray(fft.irfft(fft.rfft(dry, _PADDED) * fft.rfft(tail, _PADDED), _PADDED)[:LENGTH])


def _background(rng: np.random.Generator) -> Float[np.ndarray, " samples"]:
    """Noise of unit loudness with a random tilt of its spectrum, and a hum."""
    half = LENGTH // 2 + 1
    spectrum = rng.standard_normal(half, dtype=np.float32) + 1j * rng.standard_normal(half, dtype=np.float32)
    spectrum *= (np.arange(1, half + 1, dtype=np.float32) / 1000) ** np.float32(-rng.uniform(0.0, 0.7))
    spectrum[: 40 * SECONDS] = 0  # nobody hears what is lower
    hum = int(rng.uniform(50, 400) * SECONDS)
    spectrum[hum] *= 300 * rng.uniform()
    wave = fft.irfft(spectrum, LENGTH)
    return np.asarray(wave / np.sqrt(np.mean(wave * wave)), dtype=np.float32)
