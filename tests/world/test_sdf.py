from __future__ import annotations

import numpy as np
import pytest

from polysense.world.attributes import SHAPES
from polysense.world.sdf import DISTANCE, normals, surface


def _at(shape: str, *points: tuple[float, float, float]) -> list[float]:
    x, y, z = np.array(points, dtype=np.float32).T
    return [round(float(value), 4) for value in DISTANCE[shape](x, y, z)]


def test_distances_worked_by_hand() -> None:
    assert _at("ball", (0, 0, 0), (1, 0, 0), (0, 0.6, 0.8)) == [-0.8, 0.2, 0.2]
    assert _at("ring", (0.7, 0, 0), (0, 0, 0), (0, 0.95, 0)) == [-0.25, 0.45, 0.0]
    assert _at("pill", (0, 0, 0.55), (1, 0, 0), (0, 0, 1.0)) == [-0.4, 0.6, 0.05]
    assert _at("cylinder", (0.55, 0, 0), (0.55 + 0.3, 0, 0.72 + 0.4), (0, 0, 1.72)) == [0.0, 0.5, 1.0]


@pytest.mark.parametrize("shape", SHAPES)
def test_a_shape_lies_inside_the_unit_sphere(shape: str) -> None:
    points, _ = surface(shape, 1500)
    assert 0.6 < np.linalg.norm(points, axis=1).max() <= 1.0


@pytest.mark.parametrize("shape", SHAPES)
def test_a_distance_is_never_too_long(shape: str) -> None:
    rng = np.random.default_rng(0)
    away = rng.uniform(-1.5, 1.5, size=(200, 3)).astype(np.float32)
    points, _ = surface(shape)
    nearest = np.sqrt(((away[:, None] - points[None]) ** 2).sum(-1)).min(1)
    claimed = DISTANCE[shape](*away.T)
    assert (np.abs(claimed) <= nearest + 0.05).all()


@pytest.mark.parametrize("shape", SHAPES)
def test_surface_points_lie_on_the_surface_and_normals_point_outwards(shape: str) -> None:
    points, directions = surface(shape, 1500)
    assert np.abs(DISTANCE[shape](*points.T)).max() < 0.02
    np.testing.assert_allclose(np.linalg.norm(directions, axis=1), 1, atol=1e-4)
    outside = points + 0.05 * directions
    assert (DISTANCE[shape](*outside.T) > 0).mean() > 0.98


def test_normals_of_a_ball_are_its_radii() -> None:
    points = np.array([[0.8, 0, 0], [0, 0.48, 0.64]], dtype=np.float32)
    np.testing.assert_allclose(normals("ball", points), points / 0.8, atol=0.02)
