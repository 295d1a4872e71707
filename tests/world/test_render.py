from __future__ import annotations

import numpy as np

from polysense.world.attributes import Look
from polysense.world.camera import RESOLUTION, Camera
from polysense.world.render import PIXELS, Body, axis_rotation, compose, trace, yaw

CAMERA = Camera(
    np.zeros(3, dtype=np.float32), np.array([[1, 0, 0], [0, 0, -1], [0, 1, 0]], dtype=np.float32), 64.0
)  # fmt: skip
WALL = np.full(PIXELS, 9.0, dtype=np.float32)


def _ball(*centres: tuple[float, float, float], radius: float = 0.5, number: int = 1) -> Body:
    frames = len(centres)
    return Body(
        Look("ball", "red", "small", "wood"), radius, np.ones(3, dtype=np.float32),
        np.array(centres, dtype=np.float32), np.tile(np.eye(3, dtype=np.float32), (frames, 1, 1)),
        np.ones(frames, dtype=bool), number,
    )  # fmt: skip


def _middle(values: np.ndarray) -> float:
    return float(values.reshape(-1, RESOLUTION, RESOLUTION)[0, 31:33, 31:33].mean())


def test_a_ball_is_met_at_its_near_side() -> None:
    directions, _ = CAMERA.rays()
    seen = compose([_ball((0, 2, 0))], [trace(_ball((0, 2, 0)), CAMERA, directions)], WALL)
    assert abs(_middle(seen.distance) - (2 - 0.8 * 0.5)) < 0.01


def test_the_silhouette_of_a_ball_has_the_area_of_its_disc() -> None:
    directions, _ = CAMERA.rays()
    hits = trace(_ball((0, 3, 0)), CAMERA, directions)
    angle = np.arcsin(0.4 / 3)
    assert abs(len(hits.pixel) - np.pi * (64 * np.tan(angle)) ** 2) < 25


def test_nearer_bodies_cover_farther_ones() -> None:
    directions, _ = CAMERA.rays()
    bodies = [_ball((0, 4, 0), number=1), _ball((0, 2, 0), radius=0.2, number=2)]
    seen = compose(bodies, [trace(body, CAMERA, directions) for body in bodies], WALL)
    masks = seen.masks(bodies)
    assert masks.shape == (1, RESOLUTION, RESOLUTION)
    assert masks[0, 32, 32] == 2
    assert set(np.unique(masks)) == {0, 1, 2}
    assert 0 < seen.visible_share(0) < 1
    assert seen.visible_share(1) == 1


def test_frames_are_traced_together_as_they_would_be_alone() -> None:
    directions, _ = CAMERA.rays()
    centres = ((0.0, 2.0, 0.0), (0.3, 2.5, 0.1))
    both = trace(_ball(*centres), CAMERA, directions)
    for frame, centre in enumerate(centres):
        alone = trace(_ball(centre), CAMERA, directions)
        np.testing.assert_array_equal(both.pixel[both.frame == frame], alone.pixel)
        np.testing.assert_allclose(both.distance[both.frame == frame], alone.distance, rtol=1e-5)


def test_what_is_not_there_or_out_of_sight_is_not_hit() -> None:
    directions, _ = CAMERA.rays()
    body = _ball((0, -2, 0))
    assert len(trace(body, CAMERA, directions).pixel) == 0
    assert compose([body], [trace(body, CAMERA, directions)], WALL).visible_share(0) == 0


def test_rotations_worked_by_hand() -> None:
    np.testing.assert_allclose(yaw(np.pi / 2) @ [1, 0, 0], [0, 1, 0], atol=1e-6)
    turns = axis_rotation((1, 0, 0), np.array([0.0, np.pi / 2]))
    np.testing.assert_allclose(turns @ [0, 1, 0], [[0, 1, 0], [0, 0, 1]], atol=1e-6)
