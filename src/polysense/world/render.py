"""Sphere tracing of bodies: which pixel of which frame sees which body, where, and how far away.

A body is rigid, so its rays of all frames are moved into its own frame of reference and marched together; rays that
miss its bounding sphere are never made, and rays that have arrived or left are taken out as the march goes on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

from polysense.world.attributes import Look
from polysense.world.camera import RESOLUTION, Camera
from polysense.world.sdf import DISTANCE, Distance

PIXELS = RESOLUTION**2
_STEPS = 28
_ARRIVED = 0.012  # of the body's radius: less than a fifth of a pixel at the usual distance
_BOUND = 1.02


@dataclass(frozen=True)
class Body:
    """One rigid thing: what it is, and where it is in every frame.

    Attributes:
        look: shape and material decide its form and shading.
        radius: of the bounding sphere, metres.
        colour: linear RGB of this very body (3,), near the colour that `look` names.
        centre: (frames, 3), metres.
        rotation: (frames, 3, 3), from the body's axes to the world's.
        visible: (frames,), whether it is there at all.
        number: its value in the instance mask; 0 for clutter.
    """

    look: Look
    radius: float
    colour: Float[np.ndarray, 3]
    centre: Float[np.ndarray, "frames 3"]
    rotation: Float[np.ndarray, "frames 3 3"]
    visible: Bool[np.ndarray, " frames"]
    number: int = 0


@dataclass(frozen=True)
class Hits:
    """Where rays meet one body: frame and pixel (n,), distance along the ray (n,), point in the body's axes (n, 3)."""

    frame: Int[np.ndarray, " hits"]
    pixel: Int[np.ndarray, " hits"]
    distance: Float[np.ndarray, " hits"]
    local: Float[np.ndarray, "hits 3"]


@dataclass(frozen=True)
class Geometry:
    """What the camera sees.

    Attributes:
        distance: along the ray (frames, pixels), metres.
        owner: index of the body seen (frames, pixels), -1 for the backdrop.
        hits: per body, all that would be seen of it if it were alone.
    """

    distance: Float[np.ndarray, "frames pixels"]
    owner: Int[np.ndarray, "frames pixels"]
    hits: tuple[Hits, ...]

    def visible_share(self, index: int) -> float:
        """Share of a body's pixels that nothing else covers; 0 when it is out of the picture."""
        mine = self.hits[index]
        if not len(mine.pixel):
            return 0.0
        return float((self.owner[mine.frame, mine.pixel] == index).mean())

    def masks(self, bodies: Sequence[Body]) -> UInt8[np.ndarray, "frames height width"]:
        """Instance masks (frames, height, width): 0 is background, k is object k."""
        numbers = np.array([*(body.number for body in bodies), 0], dtype=np.uint8)
        return np.asarray(numbers[self.owner].reshape(-1, RESOLUTION, RESOLUTION))


def trace(body: Body, camera: Camera, directions: Float[np.ndarray, "pixels 3"]) -> Hits:
    """March the rays of all frames towards one body."""
    frames = np.flatnonzero(body.visible)
    away = (body.centre[frames] - camera.position).astype(np.float32)
    along = away @ directions.T
    gap = along * along - ((away * away).sum(1) - (_BOUND * body.radius) ** 2)[:, None]
    row, pixel = np.nonzero((gap > 0) & (along > 0))
    scale = np.float32(1 / body.radius)
    half, middle = np.sqrt(gap[row, pixel]) * scale, along[row, pixel] * scale
    rotation = body.rotation[frames].astype(np.float32)
    origin = (np.einsum("fji,fj->fi", rotation, -away) * scale)[row]
    heading = np.concatenate([directions[pixel[row == f]] @ rotation[f] for f in range(len(frames))] or [away])
    arrived, reached = _march(DISTANCE[body.look.shape], origin, heading, middle - half, middle + half)
    local = origin[arrived] + reached[:, None] * heading[arrived]
    return Hits(frames[row[arrived]], pixel[arrived], reached / scale, local)


def _march(
    distance: Distance,
    origin: Float[np.ndarray, "n 3"],
    heading: Float[np.ndarray, "n 3"],
    start: Float[np.ndarray, " n"],
    end: Float[np.ndarray, " n"],
) -> tuple[Int[np.ndarray, " arrived"], Float[np.ndarray, " arrived"]]:
    """Indices of the rays that arrive, ascending, and how far each went."""
    index, travelled = np.arange(len(start)), np.maximum(start, 0)
    (ox, oy, oz), (hx, hy, hz) = np.ascontiguousarray(origin.T), np.ascontiguousarray(heading.T)
    arrived, lengths = [index[:0]], [travelled[:0]]
    for _ in range(_STEPS):
        gap = distance(ox + travelled * hx, oy + travelled * hy, oz + travelled * hz)
        travelled = travelled + gap
        near = gap < _ARRIVED
        going = ~near & (travelled < end)
        arrived.append(index[near])
        lengths.append(travelled[near])
        if not going.any():
            break
        if not going.all():
            index, travelled, end = index[going], travelled[going], end[going]
            ox, oy, oz, hx, hy, hz = (axis[going] for axis in (ox, oy, oz, hx, hy, hz))
    every = np.concatenate(arrived)
    order = np.argsort(every)
    return every[order], np.concatenate(lengths)[order]


def compose(bodies: Sequence[Body], hits: Sequence[Hits], backdrop: Float[np.ndarray, " pixels"]) -> Geometry:
    """Let nearer bodies cover farther ones, in front of a backdrop at distance (pixels,)."""
    frames = len(bodies[0].visible)
    distance = np.tile(backdrop, (frames, 1))
    owner = np.full((frames, PIXELS), -1, dtype=np.int16)
    for index, hit in enumerate(hits):
        nearer = hit.distance < distance[hit.frame, hit.pixel]
        where = hit.frame[nearer], hit.pixel[nearer]
        distance[where] = hit.distance[nearer]
        owner[where] = index
    return Geometry(distance, owner, tuple(hits))


def yaw(angle: float | Float[np.ndarray, " frames"]) -> Float[np.ndarray, "*frames 3 3"]:
    """Rotation (..., 3, 3) about the upright axis, radians."""
    return axis_rotation((0.0, 0.0, 1.0), angle)


def axis_rotation(
    axis: Sequence[float] | Float[np.ndarray, 3], angle: float | Float[np.ndarray, " frames"]
) -> Float[np.ndarray, "*frames 3 3"]:
    """Rotations (..., 3, 3) about one axis (3,) by angles (...), radians (Rodrigues' formula)."""
    x, y, z = np.asarray(axis, dtype=np.float64) / np.linalg.norm(axis)
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    angles = np.asarray(angle, dtype=np.float64)[..., None, None]
    return np.asarray(np.eye(3) + np.sin(angles) * cross + (1 - np.cos(angles)) * (cross @ cross), dtype=np.float32)
