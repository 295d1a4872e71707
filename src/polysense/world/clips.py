"""One clip of the world: timeline, film, sound, masks, texts, manifest row."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

from polysense.world.attributes import clip_labels
from polysense.world.camera import RESOLUTION, Camera, sample_camera
from polysense.world.config import Difficulty, WorldConfig
from polysense.world.events import SECONDS, Event, label_seconds, main_event, motion, sample_timeline
from polysense.world.language import referring, semantics, still_captions
from polysense.world.narrative import (
    NARRATED,
    SENSES,
    clip_captions,
    clip_questions,
    clip_semantics,
    narration,
    web_captions,
)
from polysense.world.render import Body, Geometry, compose, trace
from polysense.world.rng import generator
from polysense.world.scene import sample_body, sample_clutter
from polysense.world.sdf import surface
from polysense.world.shade import develop, sample_backdrop, sample_light, shade
from polysense.world.sound import soundtrack
from polysense.world.timing import Stopwatch
from polysense.world.writers import FRAME_RATE, flac, mp4, png, store

FRAMES = SECONDS * FRAME_RATE
_TIMES = np.arange(FRAMES, dtype=np.float32) / FRAME_RATE
_LANES = (0.0, -0.62, 0.62)  # metres: the main event in the middle, others beside it
_Stream = Callable[[str], np.random.Generator]


@dataclass(frozen=True)
class Film:
    """The seen side of a clip: pictures (frames, height, width, 3), what moved in them, and who is where."""

    pictures: UInt8[np.ndarray, "frames height width 3"]
    bodies: tuple[Body, ...]
    geometry: Geometry
    camera: Camera


def build_clip(root: Path, config: WorldConfig, split: str, index: int, watch: Stopwatch) -> dict[str, Any]:
    """Write the files of one clip below `root` and return its manifest row.

    The masks of all frames lie in one PNG, frame below frame: (20 * 64, 64); its entry says `frames`.
    """
    name = f"clip-{split}-{index:06d}"

    def stream(part: str) -> np.random.Generator:
        return generator(config.seed, "clip", split, index, part)

    with watch("timeline"):
        events = sample_timeline(stream("events"), config.level, held_out=split == "compositional")
        main = main_event(events)
        key = round((main.start + main.end) / 2 * FRAME_RATE)
    with watch("video"):
        number = int(stream("room").integers(config.level.rooms))
        film = shoot(events, stream, config.level, room=partial(generator, config.seed, "room", number))
        masks = film.geometry.masks(film.bodies)
        media = {
            "video": store(root, f"media/video/{name}.mp4", mp4(film.pictures), frames=FRAMES, rate=FRAME_RATE),
            "image": store(root, f"media/image/{name}.png", png(film.pictures[key]), frame=key),
            "mask": store(root, f"media/mask/{name}.png", png(masks[key])),
            "masks": store(root, f"media/masks/{name}.png", png(masks.reshape(-1, RESOLUTION)), frames=FRAMES),
        }
    with watch("audio"):
        wave = soundtrack(events, stream("audio"), config.level)
    with watch("flac"):
        media["audio"] = store(root, f"media/audio/{name}.flac", flac(wave))
    with watch("text"):
        return _row(name, split, events, film, media, key=key, rng=stream("text"))


def shoot(events: Sequence[Event], stream: _Stream, level: Difficulty, *, room: _Stream) -> Film:
    """Film the visible events in a room: its camera, light, backdrop and clutter do not depend on the clip.

    Rooms are few, so nothing static tells one clip from another; a backdrop of its own would be all that contrastive
    learning encodes of a clip.
    """
    camera = sample_camera(room("camera"), target_height=0.42)
    directions, _ = camera.rays()
    backdrop = sample_backdrop(room("backdrop"), level, camera, directions)
    rng = stream("objects")
    main = main_event(tuple(events))
    seen = [main, *(event for event in events if event.visible and event is not main)]
    side = 1 if rng.uniform() < 0.5 else -1
    moving = [
        _moving(rng, event, level, lane=side * _LANES[k], number=k + 1) for k, event in enumerate(seen)
    ]  # fmt: skip
    there = np.ones(FRAMES, dtype=bool)
    static = [
        replace(
            body, centre=np.repeat(body.centre, FRAMES, 0), rotation=np.repeat(body.rotation, FRAMES, 0), visible=there
        )
        for body in sample_clutter(room("clutter"), level)
    ]
    bodies = (*moving, *static)
    geometry = compose(bodies, [trace(body, camera, directions) for body in bodies], backdrop.distance)
    linear = shade(bodies, geometry, camera, directions, backdrop, sample_light(room("light"), level))
    return Film(develop(linear, stream("image"), level), bodies, geometry, camera)


def _moving(rng: np.random.Generator, event: Event, level: Difficulty, *, lane: float, number: int) -> Body:
    """The thing of an event in every frame; it comes and goes with the event."""
    body = sample_body(rng, event.look, replace(level, tilt=0.4 * level.tilt), number=number)
    path = motion(event, _TIMES, body.radius)
    rotation = path.rotation @ body.rotation[0]
    points = surface(event.look.shape)[0][::12]
    height = -body.radius * (rotation[:, 2] @ points.T).min(axis=1)
    middle = np.array([lane, 0.0]) + rng.uniform(-1, 1, size=2) * level.off_centre
    centre = path.offset + np.concatenate([np.broadcast_to(middle, (FRAMES, 2)), height[:, None]], axis=1)
    there = (event.start <= _TIMES) & (event.end > _TIMES)
    return replace(body, centre=centre.astype(np.float32), rotation=rotation.astype(np.float32), visible=there)


def _row(
    name: str,
    split: str,
    events: tuple[Event, ...],
    film: Film,
    media: dict[str, Any],
    *,
    key: int,
    rng: np.random.Generator,
) -> dict[str, Any]:
    main = main_event(events)
    there = [_at(body, key) for body in film.bodies if body.number and body.visible[key]]
    pixels = np.bincount(film.geometry.masks(film.bodies)[key].ravel(), minlength=4)
    captions = {sense: clip_captions(rng, events, sense) for sense in SENSES}
    captions["image"] = still_captions(rng, there, film.camera, ("image",))["image"]
    captions["web"] = web_captions(rng, main)
    row: dict[str, Any] = {
        "id": name,
        "kind": "clip",
        "split": split,
        "media": media,
        "labels": clip_labels(main.happening),
        "captions": captions,
        "semantics": {
            "image": semantics(main.look, "image"), **{sense: clip_semantics(events, sense) for sense in SENSES}
        },
        "questions": clip_questions(events),
        "referring": referring(there, [int(pixels[body.number]) for body in there], film.camera),
        "seconds": {sense: label_seconds(events, sense) for sense in SENSES},
        "scene": {"keyframe": key, "events": _timeline(events, film)},
    }  # fmt: skip
    if rng.uniform() < NARRATED:
        row["narrations"] = {sense: narration(rng, events, sense) for sense in SENSES}
        row["narration"] = row["narrations"]["video"]
    return row


def _at(body: Body, frame: int) -> Body:
    return replace(
        body, centre=body.centre[frame, None], rotation=body.rotation[frame, None], visible=body.visible[frame, None]
    )


def _timeline(events: tuple[Event, ...], film: Film) -> list[dict[str, Any]]:
    """Events as JSON; `object` is the thing's number in the masks, absent for what is only heard."""
    main = main_event(events)
    numbers = {body.look: body.number for body in film.bodies if body.number}
    found = []
    for event in events:
        entry: dict[str, Any] = {"event": event.name, **asdict(event.look), "start": event.start, "end": event.end}
        entry |= {"visible": event.visible, "audible": event.audible, "main": event is main}
        found.append(entry | ({"object": numbers[event.look]} if event.visible else {}))
    return found
