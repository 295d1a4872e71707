"""Signed distance functions of the world's shapes, each inside the unit sphere, with z up.

A function takes three arrays of coordinates and returns distances; a distance may be too short, never too long, so
that sphere tracing cannot step through a surface.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np
from jaxtyping import Float

from polysense.world.rng import generator

Coordinates = Float[np.ndarray, " n"]
Distance = Callable[[Coordinates, Coordinates, Coordinates], Coordinates]

_TETRAHEDRON = np.array([(1, -1, -1), (-1, -1, 1), (-1, 1, -1), (1, 1, 1)], dtype=np.float32)


def _box(x: Coordinates, y: Coordinates, z: Coordinates, half: tuple[float, float, float]) -> Coordinates:
    qx, qy, qz = np.abs(x) - half[0], np.abs(y) - half[1], np.abs(z) - half[2]
    inside = np.minimum(np.maximum(qx, np.maximum(qy, qz)), 0.0)
    qx, qy, qz = np.maximum(qx, 0.0), np.maximum(qy, 0.0), np.maximum(qz, 0.0)
    return np.asarray(inside + np.sqrt(qx * qx + qy * qy + qz * qz))


def _ball(x: Coordinates, y: Coordinates, z: Coordinates) -> Coordinates:
    return np.asarray(np.sqrt(x * x + y * y + z * z) - np.float32(0.8))


def _egg(x: Coordinates, y: Coordinates, z: Coordinates) -> Coordinates:
    a, c = np.float32(1 / 0.6), np.float32(1 / 0.95)
    across = x * x + y * y
    k0 = np.sqrt(across * a**2 + z * z * c**2)
    k1 = np.sqrt(across * a**4 + z * z * c**4)
    return np.asarray(k0 * (k0 - 1) / np.maximum(k1, 1e-6))


def _cube(x: Coordinates, y: Coordinates, z: Coordinates) -> Coordinates:
    return _box(x, y, z, (0.54, 0.54, 0.54)) - np.float32(0.03)


def _cylinder(x: Coordinates, y: Coordinates, z: Coordinates) -> Coordinates:
    side, cap = np.sqrt(x * x + y * y) - 0.55, np.abs(z) - 0.72
    out_side, out_cap = np.maximum(side, 0.0), np.maximum(cap, 0.0)
    return np.asarray(np.minimum(np.maximum(side, cap), 0.0) + np.sqrt(out_side * out_side + out_cap * out_cap))


def _prism(x: Coordinates, y: Coordinates, z: Coordinates) -> Coordinates:
    """A lying triangular prism."""
    roof = np.maximum(np.abs(x) * np.float32(0.866) + z * np.float32(0.5), -z) - np.float32(0.36)
    return np.asarray(np.maximum(roof, np.abs(y) - np.float32(0.66)))


def _cone(x: Coordinates, y: Coordinates, z: Coordinates) -> Coordinates:
    slant = np.float32(0.7), np.float32(1.35)  # base radius, height
    norm = np.float32(1 / np.hypot(0.7, 1.35))
    side = (np.sqrt(x * x + y * y) * slant[1] + (z - np.float32(0.8)) * slant[0]) * norm
    return np.asarray(np.maximum(side, -z - np.float32(0.55)))


def _pyramid(x: Coordinates, y: Coordinates, z: Coordinates) -> Coordinates:
    norm = np.float32(1 / np.hypot(0.62, 1.3))
    side = (np.maximum(np.abs(x), np.abs(y)) * np.float32(1.3) + (z - np.float32(0.85)) * np.float32(0.62)) * norm
    return np.asarray(np.maximum(side, -z - np.float32(0.45)))


def _ring(x: Coordinates, y: Coordinates, z: Coordinates) -> Coordinates:
    around = np.sqrt(x * x + y * y) - np.float32(0.7)
    return np.asarray(np.sqrt(around * around + z * z) - np.float32(0.25))


def _pill(x: Coordinates, y: Coordinates, z: Coordinates) -> Coordinates:
    along = z - np.clip(z, -0.55, 0.55)
    return np.asarray(np.sqrt(x * x + y * y + along * along) - np.float32(0.4))


def _cross(x: Coordinates, y: Coordinates, z: Coordinates) -> Coordinates:
    """A standing plus sign."""
    return np.asarray(np.minimum(_box(x, y, z, (0.85, 0.26, 0.26)), _box(x, y, z, (0.26, 0.26, 0.85))))


DISTANCE: dict[str, Distance] = {
    "ball": _ball, "egg": _egg, "cube": _cube, "cylinder": _cylinder, "prism": _prism, "cone": _cone,
    "pyramid": _pyramid, "ring": _ring, "pill": _pill, "cross": _cross,
}  # fmt: skip


def normals(shape: str, points: Float[np.ndarray, "n 3"], step: float = 0.01) -> Float[np.ndarray, "n 3"]:
    """Outward unit normals (n, 3) near a surface, from four evaluations at the corners of a tetrahedron."""
    distance, x, y, z = DISTANCE[shape], points[:, 0], points[:, 1], points[:, 2]
    total = np.zeros_like(points)
    for corner in _TETRAHEDRON:
        dx, dy, dz = (float(c) * np.float32(step) for c in corner)
        total += distance(x + dx, y + dy, z + dz)[:, None] * corner
    return np.asarray(total / np.maximum(np.sqrt((total * total).sum(1, keepdims=True)), 1e-9), dtype=np.float32)


@cache
def surface(shape: str, count: int = 6000) -> tuple[Float[np.ndarray, "n 3"], Float[np.ndarray, "n 3"]]:
    """Points (n, 3) and normals (n, 3), spread evenly over the whole surface of a shape.

    Random points of the cube are kept when they lie in a thin shell around the surface, whose volume is proportional
    to area, and then moved along the gradient onto it.
    """
    rng = generator("surface", shape)
    found: list[Float[np.ndarray, "_ 3"]] = []
    points: Float[np.ndarray, "_ 3"]
    while sum(map(len, found)) < count:
        points = rng.uniform(-1, 1, size=(100_000, 3)).astype(np.float32)
        near = points[np.abs(DISTANCE[shape](points[:, 0], points[:, 1], points[:, 2])) < 0.03]
        for _ in range(3):
            near = near - DISTANCE[shape](near[:, 0], near[:, 1], near[:, 2])[:, None] * normals(shape, near)
        found.append(near)
    points = np.concatenate(found)[:count]
    return points, normals(shape, points)
