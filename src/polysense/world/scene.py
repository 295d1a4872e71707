"""Sampling of still scenes: one to three objects on a floor, things lying about, something in the way."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float

from polysense.world.attributes import COLOURS, RADIUS, RGB, Look, looks
from polysense.world.camera import RESOLUTION, Camera, sample_camera
from polysense.world.config import Difficulty
from polysense.world.render import Body, Geometry, Hits, axis_rotation, compose, trace, yaw
from polysense.world.sdf import surface
from polysense.world.shade import Backdrop, Light, sample_backdrop, sample_light

_CLUTTER = ("ball", "cube", "cylinder", "pill")


@dataclass(frozen=True)
class Scene:
    """A still before any sensor: objects first (the subject is the first of them), then clutter."""

    bodies: tuple[Body, ...]
    camera: Camera
    directions: Float[np.ndarray, "pixels 3"]
    forwardness: Float[np.ndarray, " pixels"]
    backdrop: Backdrop
    light: Light
    geometry: Geometry

    @property
    def objects(self) -> tuple[Body, ...]:
        return tuple(body for body in self.bodies if body.number)


def sample_body(rng: np.random.Generator, look: Look, level: Difficulty, *, number: int = 0) -> Body:
    """An object of the given attributes at the origin, resting on the floor in some pose."""
    radius = RADIUS[look.size] * (1 + rng.uniform(-level.size_jitter, level.size_jitter))
    rgb = np.clip(np.array(RGB[look.colour]) + rng.normal(0, level.colour_jitter, size=3), 0.02, 1.0)
    rotation = axis_rotation(
        [*rng.normal(size=2), 0.0], np.radians(rng.uniform(0, level.tilt))
    ) @ yaw(rng.uniform(0, 2 * np.pi))  # fmt: skip
    centre = np.array([[0.0, 0.0, resting_height(look.shape, rotation) * radius]], dtype=np.float32)
    return Body(
        look, float(radius), (rgb**1.6).astype(np.float32), centre, rotation[None], np.ones(1, dtype=bool), number
    )


def resting_height(shape: str, rotation: Float[np.ndarray, "3 3"]) -> float:
    """Height of the centre above the floor, in radii, when a turned shape touches it."""
    points, _ = surface(shape)
    return -float((points[::8] @ rotation[2]).min())


def place(body: Body, x: float, y: float) -> Body:
    return replace(body, centre=body.centre + np.array([x, y, 0.0], dtype=np.float32))


def sample_scene(stream: Callable[[str], np.random.Generator], level: Difficulty, *, held_out: bool) -> Scene:
    """Draw a scene and look at it; things that cover too much of the subject are taken away.

    Args:
        stream: gives a generator for each part of the scene by name, so that a change to one part leaves the others.
        held_out: draw the subject from the combinations kept from training.
    """
    rng = stream("objects")
    camera = sample_camera(stream("camera"))
    directions, forwardness = camera.rays()
    backdrop = sample_backdrop(stream("backdrop"), level, camera, directions)
    pool = looks(held_out=held_out)
    subject = sample_body(rng, pool[rng.integers(len(pool))], level, number=1)
    angle, reach = rng.uniform(0, 2 * np.pi), level.off_centre * np.sqrt(rng.uniform())
    subject = place(subject, reach * np.cos(angle), reach * np.sin(angle))
    objects = [subject]
    for number in range(2, 2 + int(rng.choice(3, p=level.objects))):
        further = sample_body(rng, _other_look(rng, objects, level), level, number=number)
        other = _beside(rng, camera, objects, further, level)
        if other is not None:
            objects.append(other)
    clutter = sample_clutter(stream("clutter"), level, around=subject)
    bodies = [*objects, *clutter, *_occluder(stream("occluder"), camera, subject, level)]
    hits = [trace(body, camera, directions) for body in bodies]
    bodies, geometry = _uncover(bodies, hits, backdrop.distance, level)
    return Scene(
        tuple(bodies), camera, directions, forwardness, backdrop, sample_light(stream("light"), level), geometry
    )


def _other_look(rng: np.random.Generator, objects: list[Body], level: Difficulty) -> Look:
    """Attributes of a further object: a near miss of the subject, or anything; never those of another object."""
    subject = objects[0].look
    taken = {(body.look.shape, body.look.colour) for body in objects}
    pool = [look for look in looks() if (look.shape, look.colour) not in taken]
    if rng.uniform() < level.near_miss:
        pool = [look for look in pool if (look.shape == subject.shape) != (look.colour == subject.colour)]
    return pool[rng.integers(len(pool))]


def _beside(
    rng: np.random.Generator, camera: Camera, objects: list[Body], body: Body, level: Difficulty
) -> Body | None:
    """The body at a free place of the picture, farther from its middle than the subject; `None` if there is none."""
    subject = objects[0]
    for _ in range(12):
        angle = rng.uniform(0, 2 * np.pi)
        reach = subject.radius + body.radius + rng.uniform(0.0, 0.5)
        x, y = subject.centre[0, :2] + reach * np.array([np.cos(angle), np.sin(angle)])
        moved = place(body, x, y)
        spots = camera.project(np.concatenate([moved.centre, subject.centre]))
        off, subject_off = np.abs(spots).max(axis=1)
        free = all(np.linalg.norm((moved.centre - o.centre)[0]) > 0.85 * (moved.radius + o.radius) for o in objects)
        in_front = np.linalg.norm(moved.centre - camera.position) < np.linalg.norm(subject.centre - camera.position)
        central = off > subject_off + 8 and not (in_front and off < 18)
        if free and off < RESOLUTION / 2 - 3 and (central or not level.subject_central):
            return moved
    return None


def sample_clutter(rng: np.random.Generator, level: Difficulty, around: Body | None = None) -> list[Body]:
    """Small things that lie on the floor, but not under `around`."""
    found = []
    for _ in range(int(rng.integers(level.clutter + 1))):
        look = Look(_CLUTTER[rng.integers(4)], COLOURS[rng.integers(len(COLOURS))], "small", "rubber")
        body = replace(sample_body(rng, look, level), radius=float(rng.uniform(0.04, 0.1)))
        x, y = rng.uniform(-1.0, 1.0, size=2)
        if around is None or np.hypot(*(around.centre[0, :2] - (x, y))) > around.radius + body.radius:
            found.append(replace(body, centre=np.array([[x, y, 0.6 * body.radius]], dtype=np.float32)))
    return found


def _occluder(rng: np.random.Generator, camera: Camera, subject: Body, level: Difficulty) -> list[Body]:
    """Now and then, something that hangs between the camera and the subject."""
    if rng.uniform() >= level.occluder:
        return []
    look = Look(("pill", "ball", "cube")[rng.integers(3)], COLOURS[rng.integers(len(COLOURS))], "small", "rubber")
    body = replace(sample_body(rng, look, level), radius=float(rng.uniform(0.09, 0.17)))
    spot = camera.position + rng.uniform(0.45, 0.65) * (subject.centre[0] - camera.position)
    return [replace(body, centre=(spot + rng.uniform(-0.13, 0.13, size=3)).astype(np.float32)[None])]


def _uncover(
    bodies: list[Body], hits: list[Hits], backdrop: Float[np.ndarray, " pixels"], level: Difficulty
) -> tuple[list[Body], Geometry]:
    """Take away, last first, what covers the subject beyond the allowed share."""
    geometry = compose(bodies, hits, backdrop)
    while len(bodies) > 1 and geometry.visible_share(0) < level.min_visible:
        covering = geometry.owner[geometry.hits[0].frame, geometry.hits[0].pixel]
        worst = int(np.bincount(covering[covering > 0]).argmax())
        bodies, hits = bodies[:worst] + bodies[worst + 1 :], hits[:worst] + hits[worst + 1 :]
        geometry = compose(bodies, hits, backdrop)
    numbered, count = [], 0
    for body in bodies:
        count += body.number > 0
        numbered.append(replace(body, number=count if body.number else 0))
    return numbered, geometry
