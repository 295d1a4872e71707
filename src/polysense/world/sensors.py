"""What a depth camera, a thermal camera and a scanner make of a scene's geometry."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, UInt8, UInt16
from scipy import ndimage

from polysense.world.attributes import SIZES
from polysense.world.camera import RESOLUTION
from polysense.world.config import Difficulty
from polysense.world.render import Body
from polysense.world.scene import Scene
from polysense.world.sdf import surface

POINTS = 1024

WARMTH = {"metal": -9.0, "glass": -4.5, "wood": 3.5, "rubber": 13.0, "ceramic": 8.0}  # kelvin over the room
_SIZE_FACTOR = dict(zip(SIZES, (0.8, 0.9, 1.0, 1.1), strict=True))  # what is larger keeps more of its warmth


def depth_picture(scene: Scene, rng: np.random.Generator, level: Difficulty) -> UInt16[np.ndarray, "height width"]:
    """Depth along the optical axis in millimetres (height, width); 0 where there is no reading.

    Noise grows with the square of depth, as that of a stereo sensor; holes are blobs, and lie along edges.
    """
    metres = scene.geometry.distance[0] * scene.forwardness
    noise = level.depth_noise * metres**2 * rng.standard_normal(metres.shape, dtype=np.float32)
    picture = np.rint(1000 * (metres + noise)).reshape(RESOLUTION, RESOLUTION)
    if share := level.depth_holes * rng.uniform():
        blobs = ndimage.uniform_filter(rng.standard_normal((RESOLUTION, RESOLUTION), dtype=np.float32), 5)
        true = metres.reshape(RESOLUTION, RESOLUTION)
        edge = ndimage.maximum_filter(true, 3) - ndimage.minimum_filter(true, 3) > 0.15
        blobs = blobs + 0.15 * edge
        picture[blobs > np.quantile(blobs, 1 - share)] = 0
    return np.asarray(np.clip(picture, 0, 65535), dtype=np.uint16)


def thermal_picture(scene: Scene, rng: np.random.Generator, level: Difficulty) -> UInt16[np.ndarray, "height width"]:
    """Temperature in centikelvin (height, width): material and size warm or cool an object, colour does not."""
    room = 293.0 + rng.uniform(-3, 3)
    own = [_temperature(body, rng, level) if body.number else rng.uniform(-1.5, 1.5) for body in scene.bodies]
    excess = np.array([*own, 0.0], dtype=np.float32)[scene.geometry.owner[0]].reshape(RESOLUTION, RESOLUTION)
    blurred = ndimage.uniform_filter(ndimage.uniform_filter(excess, 2), 2)
    ramp = np.linspace(-1, 1, RESOLUTION, dtype=np.float32)
    drift = level.thermal_noise * (rng.normal() * ramp[:, None] + rng.normal() * ramp)
    noise = level.thermal_noise * rng.standard_normal(blurred.shape, dtype=np.float32)
    return np.asarray(np.rint(100 * (room + blurred + 0.5 * drift + noise)), dtype=np.uint16)


def _temperature(body: Body, rng: np.random.Generator, level: Difficulty) -> float:
    spread = 1 + rng.uniform(-2, 2) * level.size_jitter
    return WARMTH[body.look.material] * _SIZE_FACTOR[body.look.size] * spread


def point_cloud(
    scene: Scene, rng: np.random.Generator, level: Difficulty
) -> tuple[Float[np.ndarray, "points 3"], UInt8[np.ndarray, "points 3"]]:
    """Scanned points (1024, 3) in metres around the subject's centre and their colours (1024, 3).

    The whole surface is scanned, seen or not, but for a missing part. A share of the points lies on the ground around,
    a patch of fixed size, and on what else stands there.
    """
    subject, strays = scene.objects[0], int(POINTS * level.point_strays)
    yaw = rng.uniform(0, 2 * np.pi)
    keep = 1 - level.point_missing * rng.uniform()
    points, colours = _scan(subject, POINTS - strays, rng, keep)
    points = points + level.point_jitter * subject.radius * rng.standard_normal(points.shape, dtype=np.float32)
    others = scene.objects[1:]
    counts = rng.multinomial(strays, [1 - 0.25 * len(others), *[0.25] * len(others)])
    parts = [(points, colours), _ground(subject, int(counts[0]), rng)]
    for other, count in zip(others, counts[1:], strict=True):
        place, colour = _scan(other, int(count), rng, 1.0)
        parts.append((place + other.centre[0] - subject.centre[0], colour))
    cloud = np.concatenate([part[0] for part in parts])
    colour = np.concatenate([part[1] for part in parts]) * rng.uniform(0.8, 1.1)
    colour = colour + level.image_noise * rng.standard_normal(colour.shape, dtype=np.float32)
    order = rng.permutation(POINTS)
    turn = np.array([[np.cos(yaw), -np.sin(yaw), 0], [np.sin(yaw), np.cos(yaw), 0], [0, 0, 1]], dtype=np.float32)
    eight_bit = np.rint(255 * np.clip(colour, 0, 1)).astype(np.uint8)
    return (cloud @ turn.T)[order].astype(np.float32), eight_bit[order]


def _scan(
    body: Body, count: int, rng: np.random.Generator, keep: float
) -> tuple[Float[np.ndarray, "{count} 3"], Float[np.ndarray, "{count} 3"]]:
    """Points of a body's surface around its centre, without the far side of a random plane."""
    points, normals = surface(body.look.shape)
    if keep < 1:
        side = points @ rng.standard_normal(3, dtype=np.float32)
        chosen = np.flatnonzero(side <= np.quantile(side, keep))
    else:
        chosen = np.arange(len(points))
    chosen = rng.choice(chosen, size=count)
    rotation = body.rotation[0]
    shading = 0.8 + 0.2 * (normals[chosen] @ rotation[2])
    colour = body.colour ** np.float32(1 / 2.2) * shading[:, None]
    return body.radius * points[chosen] @ rotation.T, colour


def _ground(
    subject: Body, count: int, rng: np.random.Generator
) -> tuple[Float[np.ndarray, "{count} 3"], Float[np.ndarray, "{count} 3"]]:
    angle, reach = rng.uniform(0, 2 * np.pi, size=count), 0.6 * np.sqrt(rng.uniform(size=count))
    height = np.full(count, -subject.centre[0, 2])
    points = np.stack([reach * np.cos(angle), reach * np.sin(angle), height], axis=1).astype(np.float32)
    return points, np.full((count, 3), rng.uniform(0.2, 0.8), dtype=np.float32)
