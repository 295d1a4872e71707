"""What happens in a clip: the timeline, and how a thing moves while an event happens to it.

Twelve kinds of event, each with a motion (seen at two frames a second) and a rhythm (heard, in `sound`). They come in
pairs that are easily taken for each other: a fall and a bounce, a slide and a roll, a knock and a shake.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from jaxtyping import Float

from polysense.world.attributes import EVENTS, Happening, Look, happenings
from polysense.world.config import Difficulty
from polysense.world.render import axis_rotation

SECONDS = 10


@dataclass(frozen=True)
class Event:
    """One event of a clip.

    Attributes:
        happening: what happens to what.
        start, end: whole seconds; the thing is there from `start` to `end` and nowhere else.
        visible, audible: at least one of them.
        tempo: speed of motion and rhythm, 1 is usual.
        phase: where in its cycle the event begins, radians.
    """

    happening: Happening
    start: int
    end: int
    visible: bool
    audible: bool
    tempo: float
    phase: float

    @property
    def name(self) -> str:
        return self.happening.event

    @property
    def look(self) -> Look:
        return self.happening.look

    def covers(self, second: int) -> bool:
        return self.start <= second < self.end


def sample_timeline(rng: np.random.Generator, level: Difficulty, *, held_out: bool) -> tuple[Event, ...]:
    """One to three events in order of their start; the main event is the longest, and both seen and heard."""
    count = 1 + int(rng.choice(3, p=(0.4, 0.4, 0.2)))
    kinds = [event for event in EVENTS if happenings(event, held_out=held_out)]
    name = kinds[int(rng.integers(len(kinds)))]
    pool = happenings(name, held_out=held_out)
    length = int(rng.integers(4, 7))
    start = int(rng.integers(0, SECONDS - length + 1))
    happening = pool[int(rng.integers(len(pool)))]
    events = [_event(rng, level, happening, start, start + length, visible=True, audible=True)]
    names = [name]
    for _ in range(count - 1):
        other = [event for event in EVENTS if event not in names][int(rng.integers(len(EVENTS) - len(names)))]
        length = int(rng.integers(2, 4))
        start = int(rng.integers(0, SECONDS - length + 1))
        seen = int(rng.integers(3))  # both, visible alone, audible alone
        choices = happenings(other)
        happening = choices[int(rng.integers(len(choices)))]
        if any(e.start == start for e in events) or happening.look.shape in {e.look.shape for e in events}:
            continue
        events.append(_event(rng, level, happening, start, start + length, visible=seen != 2, audible=seen != 1))
        names.append(other)
    return tuple(sorted(events, key=lambda event: event.start))


def main_event(events: tuple[Event, ...]) -> Event:
    return max(events, key=lambda event: event.end - event.start)


def _event(
    rng: np.random.Generator,
    level: Difficulty,
    happening: Happening,
    start: int,
    end: int,
    *,
    visible: bool,
    audible: bool,
) -> Event:
    tempo = 1 + rng.uniform(-level.tempo, level.tempo)
    return Event(happening, start, end, visible, audible, float(tempo), float(rng.uniform(0, 2 * np.pi)))


def label_seconds(events: tuple[Event, ...], sense: str) -> list[str]:
    """The event of each second as one sense has it, "background" elsewhere; the main event wins where two overlap."""
    order = sorted(events, key=lambda event: event.start - event.end)
    there = [event for event in order if (event.visible if sense == "video" else event.audible)]
    return [next((event.name for event in there if event.covers(t)), "background") for t in range(SECONDS)]


@dataclass(frozen=True)
class Motion:
    """Path of a thing during an event: offset (frames, 3) in metres from its place on the floor, rotation, lift.

    `rotation` (frames, 3, 3) is applied before the pose of the body; the body is kept above the floor by its resting
    height, to which the offset is added.
    """

    offset: Float[np.ndarray, "frames 3"]
    rotation: Float[np.ndarray, "frames 3 3"]


_Path = Callable[["_Clock"], Motion]


@dataclass(frozen=True)
class _Clock:
    """Time since the start (frames,) scaled by tempo, total time, phase, and the way (2,) things move on the floor."""

    t: Float[np.ndarray, " frames"]
    total: float
    phase: float
    way: Float[np.ndarray, 2]
    radius: float

    def along(self, distance: Float[np.ndarray, " frames"]) -> Float[np.ndarray, "frames 3"]:
        return np.concatenate([distance[:, None] * self.way, np.zeros((len(distance), 1))], axis=1)

    def up(self, height: Float[np.ndarray, " frames"]) -> Float[np.ndarray, "frames 3"]:
        return np.stack([np.zeros_like(height), np.zeros_like(height), height], axis=1)

    def still(self) -> Float[np.ndarray, "frames 3 3"]:
        return np.broadcast_to(np.eye(3, dtype=np.float32), (len(self.t), 3, 3))

    @property
    def across(self) -> tuple[float, float, float]:
        """The axis about which a thing rolls or tips when it goes its way."""
        return -float(self.way[1]), float(self.way[0]), 0.0

    @property
    def share(self) -> Float[np.ndarray, " frames"]:
        return self.t / self.total


def bounce_times(total: float, *, first: float, ratio: float) -> list[float]:
    """Instants at which a thing that falls from a height hits the floor; flights get shorter by `ratio`."""
    times, flight = [first], 2 * first * ratio
    while times[-1] + flight < total and flight > 0.06:
        times.append(times[-1] + flight)
        flight *= ratio
    return times


def _heights(clock: _Clock, hits: list[float], top: float) -> Float[np.ndarray, " frames"]:
    """Height over the floor of a thing in free flight between hits, `top` at the beginning."""
    height = np.where(clock.t < hits[0], top * (1 - (clock.t / hits[0]) ** 2), 0.0)
    for first, last in pairwise(hits):
        inside = (clock.t >= first) & (clock.t < last)
        u = (clock.t - first) / (last - first)
        height = np.where(inside, top * ((last - first) / (2 * hits[0])) ** 2 * 4 * u * (1 - u), height)
    return height


def _fall(c: _Clock) -> Motion:
    height = _heights(c, bounce_times(c.total, first=1.1, ratio=0.22), 1.1)
    return Motion(c.up(height), axis_rotation(c.across, np.where(height > 0, 1.6 * (c.t - 1.1), 0.0)))


def _bounce(c: _Clock) -> Motion:
    return Motion(c.up(_heights(c, bounce_times(c.total, first=0.55, ratio=0.88), 0.75)), c.still())


def _slide(c: _Clock) -> Motion:
    return Motion(c.along(1.3 * (c.share - 0.5)), c.still())


def _roll(c: _Clock) -> Motion:
    distance = 1.3 * (c.share - 0.5)
    return Motion(c.along(distance), axis_rotation(c.across, distance / c.radius * 1.6))


def _spin(c: _Clock) -> Motion:
    return Motion(c.up(0 * c.t), axis_rotation((0.35, 0.15, 1.0), c.phase + 2.2 * c.t))


def _shake(c: _Clock) -> Motion:
    shift = 0.16 * np.sin(2 * np.pi * 3.37 * c.t + c.phase)
    return Motion(c.along(shift), axis_rotation(c.across, 0.25 * np.sin(23 * c.t)))


def _swing(c: _Clock) -> Motion:
    angle = 0.8 * np.cos(2 * np.pi * 0.5 * c.t + c.phase)
    arc = c.along(0.55 * np.sin(angle)) + c.up(0.3 + 0.55 * (1 - np.cos(angle)))
    return Motion(arc, axis_rotation(c.across, angle))


def _knock(c: _Clock) -> Motion:
    beat = np.abs(np.sin(np.pi * 1.0 * c.t + 0.4))
    return Motion(c.up(0.18 * beat), axis_rotation(c.across, 0.5 * beat))


def _rise(c: _Clock) -> Motion:
    return Motion(c.up(0.85 * c.share), c.still())


def _circle(c: _Clock) -> Motion:
    angle = c.phase + 2 * np.pi * 0.35 * c.t
    return Motion(0.42 * np.stack([np.cos(angle), np.sin(angle), 0 * angle], axis=1), c.still())


def _topple(c: _Clock) -> Motion:
    angle = (np.pi / 2) * np.clip(c.share / 0.55, 0, 1) ** 2
    return Motion(c.along(0.5 * c.radius * angle), axis_rotation(c.across, angle))


def _hop(c: _Clock) -> Motion:
    beat = (c.t * 0.8) % 1.0
    return Motion(c.along(1.2 * (c.share - 0.5)) + c.up(0.3 * 4 * beat * (1 - beat)), c.still())


_PATHS: dict[str, _Path] = {
    "fall": _fall, "bounce": _bounce, "slide": _slide, "roll": _roll, "spin": _spin, "shake": _shake,
    "swing": _swing, "knock": _knock, "rise": _rise, "circle": _circle, "topple": _topple, "hop": _hop,
}  # fmt: skip


def motion(event: Event, times: Float[np.ndarray, " frames"], radius: float) -> Motion:
    """Path of a thing of the given radius (metres) at the given times (frames,) in seconds of the clip."""
    total = (event.end - event.start) * event.tempo
    angle = event.phase / 2 - np.pi / 2  # mostly across the picture, less towards the camera
    way = np.array([np.cos(angle), 0.5 * np.sin(angle)]) * (1 if np.sin(3 * event.phase) >= 0 else -1)
    way = (way / np.linalg.norm(way)).astype(np.float32)
    clock = _Clock((times - event.start) * np.float32(event.tempo), total, event.phase, way, radius)
    return _PATHS[event.name](clock)
