"""From geometry to pictures: backdrop, light, materials and sensor noise of the image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

from polysense.world.camera import RESOLUTION, Camera
from polysense.world.config import Difficulty
from polysense.world.render import PIXELS, Body, Geometry
from polysense.world.sdf import normals


@dataclass(frozen=True)
class Finish:
    """How a material answers to light: diffuse and specular weight, exponent, clearness, grain, fading of colour."""

    diffuse: float
    specular: float
    exponent: float
    clear: float = 0.0
    grain: float = 0.0
    grey: float = 0.0


# weak on purpose: what something is made of is heard and felt (by its warmth) rather than seen
FINISH = {
    "metal": Finish(0.70, 0.75, 28.0, grey=0.12),
    "glass": Finish(0.80, 0.60, 60.0, clear=0.22),
    "wood": Finish(0.95, 0.03, 4.0, grain=0.22),
    "rubber": Finish(0.85, 0.06, 6.0, grey=0.05),
    "ceramic": Finish(1.0, 0.35, 90.0),
}


@dataclass(frozen=True)
class Backdrop:
    """Floor and wall behind everything: distance (pixels,), place (pixels, 3), colour and whether it is floor."""

    distance: Float[np.ndarray, " pixels"]
    place: Float[np.ndarray, "pixels 3"]
    colour: Float[np.ndarray, "pixels 3"]
    floor: Bool[np.ndarray, " pixels"]


@dataclass(frozen=True)
class Light:
    """One distant lamp: direction towards it (3,), its colour (3,), and the light from everywhere."""

    direction: Float[np.ndarray, 3]
    colour: Float[np.ndarray, 3]
    ambient: float


def sample_light(rng: np.random.Generator, level: Difficulty) -> Light:
    angle, height = rng.uniform(0, 2 * np.pi), np.radians(rng.uniform(35, 75))
    direction = np.array([np.cos(height) * np.cos(angle), np.cos(height) * np.sin(angle), np.sin(height)])
    warmth = rng.uniform(-0.12, 0.12)
    colour = rng.uniform(*level.light) * np.array([1 + warmth, 1.0, 1 - warmth])
    return Light(direction.astype(np.float32), colour.astype(np.float32), float(rng.uniform(0.3, 0.5)))


def sample_backdrop(
    rng: np.random.Generator, level: Difficulty, camera: Camera, directions: Float[np.ndarray, "pixels 3"]
) -> Backdrop:
    """A patterned floor that meets a wall; nothing of it has to do with what stands on it."""
    wall_at = rng.uniform(1.1, 2.4)
    to_floor = np.where(directions[:, 2] < -1e-4, -camera.position[2] / np.minimum(directions[:, 2], -1e-4), np.inf)
    to_wall = (wall_at - camera.position[1]) / np.maximum(directions[:, 1], 1e-3)
    floor = to_floor < to_wall
    distance = np.minimum(to_floor, to_wall).astype(np.float32)
    place = camera.position + distance[:, None] * directions
    colours = np.clip(rng.uniform(0.15, 0.6, size=(2, 1)) + rng.uniform(-0.1, 0.1, size=(2, 3)), 0.03, 0.8)
    u, v = place[:, 0], np.where(floor, place[:, 1], place[:, 2])
    pattern = np.where(floor, *(_pattern(rng, u, v) for _ in range(2)))
    colour = np.where(floor[:, None], colours[0], colours[1]) * (1 + level.texture * pattern)[:, None]
    return Backdrop(distance, place, colour.astype(np.float32), floor)


def _pattern(
    rng: np.random.Generator, u: Float[np.ndarray, " pixels"], v: Float[np.ndarray, " pixels"]
) -> Float[np.ndarray, " pixels"]:
    """Checks, stripes or blotches with values in [-1, 1]."""
    kind, pitch, angle = rng.integers(3), rng.uniform(2.0, 6.0), rng.uniform(0, np.pi)
    a, b = u * np.cos(angle) + v * np.sin(angle), v * np.cos(angle) - u * np.sin(angle)
    if kind == 0:
        return np.asarray(np.sign(np.sin(np.pi * pitch * a) * np.sin(np.pi * pitch * b)))
    if kind == 1:
        return np.asarray(np.sin(np.pi * pitch * a))
    shift = rng.uniform(0, 2 * np.pi, size=3)
    blotches = np.sin(pitch * a + shift[0]) * np.sin(1.7 * pitch * b + shift[1])
    return np.asarray((blotches + 0.5 * np.sin(2.9 * pitch * a + shift[2])) / 1.5)


def shade(
    bodies: Sequence[Body],
    geometry: Geometry,
    camera: Camera,
    directions: Float[np.ndarray, "pixels 3"],
    backdrop: Backdrop,
    light: Light,
) -> Float[np.ndarray, "frames pixels 3"]:
    """Linear colours (frames, pixels, 3) without noise."""
    frames = len(geometry.owner)
    facing = np.where(backdrop.floor, light.direction[2], max(-float(light.direction[1]), 0.15)).astype(np.float32)
    lit = np.broadcast_to(facing, (frames, PIXELS)) * _shadows(bodies, backdrop, light, frames)
    picture = backdrop.colour * (light.ambient + lit[..., None] * light.colour)
    for index, body in enumerate(bodies):
        hit = geometry.hits[index]
        seen = geometry.owner[hit.frame, hit.pixel] == index
        frame, pixel = hit.frame[seen], hit.pixel[seen]
        if len(pixel):
            behind = picture[frame, pixel]
            picture[frame, pixel] = _surface(body, frame, hit.local[seen], directions[pixel], behind, light)
    return np.asarray(picture)


def _surface(
    body: Body,
    frame: Int[np.ndarray, " hits"],
    local: Float[np.ndarray, "hits 3"],
    view: Float[np.ndarray, "hits 3"],
    behind: Float[np.ndarray, "hits 3"],
    light: Light,
) -> Float[np.ndarray, "hits 3"]:
    finish = FINISH[body.look.material]
    normal = np.einsum("nij,nj->ni", body.rotation[frame], normals(body.look.shape, local))
    facing = normal @ light.direction
    mirrored = 2 * facing[:, None] * normal - light.direction
    gloss = np.maximum(-(mirrored * view).sum(1), 0) ** finish.exponent
    colour = body.colour * (1 - finish.grey) + finish.grey * 0.5
    if finish.grain:
        rings = np.sin(26 * np.hypot(local[:, 0] + 0.3, local[:, 1] * 0.6) + 3 * local[:, 2])
        colour = colour * (1 + finish.grain * rings)[:, None]
    sky = 0.75 + 0.25 * normal[:, 2:]
    diffuse = colour * (light.ambient * sky + finish.diffuse * np.maximum(facing, 0)[:, None] * light.colour)
    solid = diffuse + (finish.specular * gloss)[:, None] * light.colour
    return np.asarray((1 - finish.clear) * solid + finish.clear * behind, dtype=np.float32)


def _shadows(
    bodies: Sequence[Body], backdrop: Backdrop, light: Light, frames: int
) -> Float[np.ndarray, "{frames} pixels"]:
    """Share of the lamp's light (frames, pixels) that bodies, taken as spheres, leave to the floor."""
    left = np.ones((frames, PIXELS), dtype=np.float32)
    pixels = np.flatnonzero(backdrop.floor)
    place = backdrop.place[pixels]
    for body in bodies:
        shadow = np.ones(0, dtype=np.float32)
        for frame in np.flatnonzero(body.visible):
            stays = frame and len(shadow) and np.array_equal(body.centre[frame], body.centre[frame - 1])
            shadow = shadow if stays else _shadow(body.centre[frame] - place, body.radius, light)
            left[frame, pixels] *= shadow
    return left


def _shadow(offset: Float[np.ndarray, "n 3"], radius: float, light: Light) -> Float[np.ndarray, " n"]:
    """Share of light left at places from which a ball is seen at `offset` (n, 3)."""
    along = offset @ light.direction
    beside = np.sqrt(np.maximum((offset * offset).sum(1) - along * along, 0)) / np.float32(0.75 * radius)
    return np.asarray(np.where(along > 0, np.clip(2 * beside - 1.2, 0.25, 1), 1), dtype=np.float32)


def develop(
    picture: Float[np.ndarray, "frames pixels 3"], rng: np.random.Generator, level: Difficulty
) -> UInt8[np.ndarray, "frames height width 3"]:
    """Gamma, sensor noise and eight bits: (frames, height, width, 3)."""
    values = np.clip(picture, 0, 1) ** np.float32(1 / 2.2)
    values = values + rng.standard_normal(values.shape, dtype=np.float32) * np.float32(level.image_noise)
    eight_bit: UInt8[np.ndarray, "frames pixels 3"] = np.rint(np.clip(values, 0, 1) * 255).astype(np.uint8)
    return eight_bit.reshape(-1, RESOLUTION, RESOLUTION, 3)
